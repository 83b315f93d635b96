//! The headline as a table in Markdown, short enough for a README.

use std::fmt::Write;

use super::group::Group;
use super::headline::{Line, PAIRS, Side, blocks};
use super::number;

/// The table; `command` and `commit` stand above it, because a figure without them says nothing.
pub(super) fn table(groups: &[Group<'_>], commit: &str, command: &str, host: &str) -> String {
    let mut out = format!("Commit {}, {}: `{}`\n\n", cell(commit), cell(host), command.replace('`', "'"));
    out.push_str("| durability | workload | metric | Corelane | Kafka, best variant | in Corelane's favour |\n");
    out.push_str("|---|---|---|--:|--:|--:|\n");
    for pair in &PAIRS {
        let blocks = blocks(groups, pair);
        if blocks.is_empty() {
            let _ = writeln!(out, "| {} | not measured | | | | |", pair.title);
        }
        for block in &blocks {
            for line in &block.lines {
                let favour = line.favour.map_or("no ratio".to_owned(), number::times_with_range);
                let (corelane, kafka) = sides(line);
                let title = format!("{}, {}", cell(block.name), block.remark);
                let _ = writeln!(
                    out,
                    "| {} | {title} | {} | {corelane} | {kafka} | {favour} |",
                    pair.title, line.metric.name
                );
            }
        }
    }
    out
}

fn sides(line: &Line<'_, '_>) -> (String, String) {
    let text = |side: &Option<Side<'_, '_>>| {
        let Some(side) = side else { return "not measured".to_owned() };
        let median = (line.metric.notation)(side.figure.spread.median);
        let variant = &side.group.target.variant;
        let variant = if variant.is_empty() { String::new() } else { format!(" ({})", cell(variant)) };
        if side.figure.counts { format!("{median}{variant}") } else { format!("~~{median}~~{variant}") }
    };
    (text(&line.corelane), text(&line.kafka))
}

/// Text that does not end its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::super::group::{Numbered, groups};
    use super::*;

    #[test]
    fn every_row_has_six_cells_and_says_what_does_not_count() {
        let mut run = fixture::run();
        for trial in &mut run.trials {
            trial.workload.name = trial.workload.name.replace("throughput-100b", "a|b");
        }
        let numbered = run.trials.iter().enumerate().map(|(number, trial)| Numbered { number, trial });
        let text = table(&groups(numbered), &run.commit, &run.command, &run.host.cpu);
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert!(rows.iter().all(|row| row.replace("\\|", "").matches('|').count() == 7), "{text}");
        assert!(text.contains("~~") && text.contains("no ratio"));
        assert!(text.contains(&run.commit));
    }

    #[test]
    fn a_row_of_durability_without_trials_is_not_left_out() {
        let text = table(&[], "c", "run", "host");
        assert_eq!(text.matches("not measured").count(), PAIRS.len());
    }
}
