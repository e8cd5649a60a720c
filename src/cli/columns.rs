//! Tables for people: columns aligned by what a terminal shows of them.

use std::io::{self, IsTerminal};

use unicode_width::UnicodeWidthStr;

use crate::output;

/// Prints rows under their heads, columns aligned, numbers to the right.
pub(super) fn print_table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) {
    output::put(&table(heads, rows));
}

fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> =
        rows.iter().map(|row| std::array::from_fn(|at| output::shown_in_line(&row[at]))).collect();
    let widths: [usize; N] = std::array::from_fn(|at| {
        let cells = rows.iter().map(|row| row[at].width());
        cells.chain([heads[at].width()]).max().unwrap_or(0)
    });
    let is_number = |at: usize| {
        let is_number = |text: &str| text.chars().all(|it| it.is_ascii_digit() || ".-".contains(it));
        !rows.is_empty() && rows.iter().all(|row| is_number(&row[at]))
    };
    let mut text = String::new();
    let mut put = |row: [&str; N]| {
        let mut line = String::new();
        for (at, cell) in row.into_iter().enumerate() {
            let fill = " ".repeat(widths[at] - cell.width());
            let cell = if is_number(at) { format!("{fill}{cell}") } else { format!("{cell}{fill}") };
            line += &cell;
            line += "  ";
        }
        text += line.trim_end();
        text += "\n";
    };
    put(heads);
    rows.iter().for_each(|row| put(std::array::from_fn(|at| row[at].as_str())));
    text
}

/// Whether standard error is a terminal, and a progress bar on it is of use.
pub(super) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_right() {
        let rows = [["7".to_owned(), "Board".to_owned()], ["1024".to_owned(), "Ä".to_owned()]];
        assert_eq!(table(["MEETING", "NAME"], &rows), "MEETING  NAME\n      7  Board\n   1024  Ä\n");
        assert_eq!(table(["MEETING", "NAME"], &[]), "MEETING  NAME\n");
    }

    #[test]
    fn a_name_keeps_to_its_row_and_its_column() {
        let row = |name: &str, state: &str| [name.to_owned(), state.to_owned()];
        let rows = [row("会议室", "missing"), row("Ä\u{1b}[2J\nforged", "in meeting"), row("e\u{301}", "ended")];
        assert_eq!(
            table(["NAME", "STATE"], &rows),
            "NAME                STATE\n\
             会议室              missing\n\
             Ä\\u{1b}[2J\\nforged  in meeting\n\
             e\u{301}                   ended\n"
        );
    }
}
