//! The list as the table of `docs/matrix.md`.

use super::columns::Column;
use super::rows::{ROWS, Row};

const BEGIN: &str = "<!-- matrix: made by tests/it/matrix -->\n";
const END: &str = "<!-- end of matrix -->";

/// The page with the table of now.
pub(super) fn placed(page: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{}{END}{after}", rendered()))
}

fn rendered() -> String {
    let reasons = reasons();
    let titles = Column::ALL.map(Column::title).join(" | ");
    let rules = "---|".repeat(Column::ALL.len() + 1);
    let rows = ROWS.iter().map(|row| line(row, &reasons));
    let notes = reasons.iter().enumerate();
    let notes = notes.map(|(index, reason)| format!("{}. {reason}\n", index + 1));
    format!(
        "| | {titles} |\n|{rules}\n{}\nRefused:\n\n{}",
        rows.collect::<String>(),
        notes.collect::<String>()
    )
}

/// The reasons of all refusals, each once, in the order of the table.
fn reasons() -> Vec<&'static str> {
    let cells = ROWS
        .iter()
        .flat_map(|row| Column::ALL.map(|column| row.refusal(column)));
    let mut reasons = Vec::new();
    for reason in cells.flatten() {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    reasons
}

fn line(row: &Row, reasons: &[&str]) -> String {
    let cells = Column::ALL.map(|column| match row.refusal(column) {
        None => "✓".to_owned(),
        Some(reason) => {
            let number = reasons.iter().position(|known| *known == reason);
            number.map_or_else(String::new, |index| format!("[{}]", index + 1))
        }
    });
    let samplers = match row.samplers {
        [] => String::new(),
        names => format!(": {}", names.join(", ")),
    };
    format!("| {}{samplers} | {} |\n", row.name, cells.join(" | "))
}
