//! `baton load` on the autonomous servers' side, and what it tells.

use std::error::Error;
use std::process::Command;

use baton::lab::testbed::{INTERFACE, Side, Testbed};
use serde_json::Value;

use super::server::{BASE, Server, TERMINALS};

/// What is asked of it.
pub enum Asked {
    /// So many frames a second for a while.
    Steady { what: &'static str, rate: u32, seconds: u32 },
    /// The rate that is borne without loss.
    Search { what: &'static str },
    /// As many as the kernel sends, by one who knows no secret.
    Flood { what: &'static str, seconds: u32 },
}

/// Runs it on core 0; gives what it printed.
pub fn load(testbed: &Testbed, server: &Server, asked: Asked) -> Result<Value, Box<dyn Error>> {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/run/netns/{}", testbed.namespace(Side::Servers)))
        .args(["taskset", "--cpu-list", "0"])
        .arg(testbed.program()?)
        .arg("load");
    let mac = Side::Dispatch.mac().to_string();
    let common = |command: &mut Command, what: &str| {
        command.args(["--json", "--interface", INTERFACE, "--dispatch-mac", &mac, "--what", what]);
        command.args(["--base", BASE, "--terminals", TERMINALS, "--core", "0"]);
    };
    match asked {
        Asked::Steady { what, rate, seconds } => {
            common(&mut command, what);
            command.args(["--rate", &rate.to_string(), "--for", &format!("{seconds}s")]);
            command.arg("--config").arg(server.configuration());
        }
        Asked::Search { what } => {
            command.arg("search");
            common(&mut command, what);
            command.arg("--config").arg(server.configuration());
            command.args(["--from", "50000", "--to", "1000000", "--trial", "2s"]);
        }
        Asked::Flood { what, seconds } => {
            common(&mut command, what);
            command.args(["--by", "xdp", "--rate", "max", "--for", &format!("{seconds}s"), "--wait", "100ms"]);
            command.args(["--domains", "1-4", "--dispatch", "1000/1", "--insecure-no-authentication"]);
        }
    }
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A number in what was told.
pub fn number(told: &Value, path: &str) -> f64 {
    told.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN)
}
