//! How commands print what they list: as a table for people, or as JSON.

use std::io::{self, Write};

use clap::{Args, ValueEnum};

/// The option that chooses.
#[derive(Args, Debug)]
pub(super) struct FormatArguments {
    /// How to print
    #[arg(short, long, value_enum, default_value = "text")]
    pub(super) format: Format,
}

/// The forms there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// One JSON array with an object for each thing listed
    Json,
}

/// Columns as wide as their widest cell, two spaces apart.
pub(super) fn write_table<const N: usize>(out: &mut impl Write, rows: &[[String; N]]) -> io::Result<()> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    for row in rows {
        let cells: String = row.iter().zip(widths).map(|(cell, width)| format!("  {cell:<width$}")).collect();
        writeln!(out, "{}", cells.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_columns_are_aligned_and_end_without_spaces() {
        let rows = [["a", "long cell", "c"], ["aaaa", "b", ""]].map(|row| row.map(str::to_owned));
        let mut out = Vec::new();
        write_table(&mut out, &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "  a     long cell  c\n  aaaa  b\n");
    }
}
