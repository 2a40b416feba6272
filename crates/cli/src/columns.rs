//! Left-aligned columns.

/// Lines of `rows` under `headings`, each column as wide as its widest cell but at least as `widths` says; two spaces
/// between columns, none at the end of a line.
pub fn columns(indent: &str, headings: &[&str], widths: &[usize], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .chain([headings[column].len(), widths.get(column).copied().unwrap_or(0)])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{indent}{}\n", padded.join("  ").trim_end())
    };
    std::iter::once(line(headings.to_vec()))
        .chain(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_grow_with_their_cells() {
        let rows = [vec!["1".to_owned(), "a".to_owned()], vec!["22222".to_owned(), "b".to_owned()]];
        assert_eq!(columns(" ", &["Id", "Name"], &[], &rows), " Id     Name\n 1      a\n 22222  b\n");
    }
}
