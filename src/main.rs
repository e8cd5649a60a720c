//! Parse, run, exit code.

fn main() -> std::process::ExitCode {
    baton::cli::main()
}
