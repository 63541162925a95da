//! Tables for the terminal: columns as wide as their longest cell, or fitted to the terminal.

use std::sync::atomic::{AtomicU16, Ordering};

use comfy_table::{ContentArrangement, presets};

/// The width that tables are fitted to, in columns; 0 means any width.
static WIDTH: AtomicU16 = AtomicU16::new(0);

/// Fits every table that is written from now on to a terminal with this many columns. Output to a file
/// or a pipe is not fitted: programs read it by line.
pub fn fit(columns: u16) {
    WIDTH.store(columns, Ordering::Relaxed);
}

/// Rows under a header.
#[derive(Debug)]
pub struct Table {
    inner: comfy_table::Table,
}

impl Table {
    /// A table without a header.
    pub fn new() -> Self {
        let mut inner = comfy_table::Table::new();
        inner.load_style(presets::NOTHING);
        Self { inner }
    }

    /// A table with a header.
    pub fn with_header<S: ToString>(header: impl IntoIterator<Item = S>) -> Self {
        let mut table = Self::new();
        table.inner.set_header(header.into_iter().map(|cell| cell.to_string()));
        table
    }

    /// Adds a row.
    pub fn add<S: ToString>(&mut self, row: impl IntoIterator<Item = S>) {
        self.inner.add_row(row.into_iter().map(|cell| cell.to_string()));
    }

    /// The table, with a newline after each line. A cell that does not fit is wrapped within its
    /// column.
    pub fn text(self) -> String {
        self.within(WIDTH.load(Ordering::Relaxed))
    }

    fn within(mut self, columns: u16) -> String {
        if columns == 0 {
            self.inner.set_content_arrangement(ContentArrangement::Disabled);
        } else {
            self.inner.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns);
        }
        self.inner.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::with_header(["node", "what it does"]);
        table.add(["master1", "check that one load balancer holds the VIP"]);
        table.add(["lb1", "start"]);
        table
    }

    #[test]
    fn a_table_without_a_limit_is_as_wide_as_its_cells() {
        assert_eq!(
            table().within(0),
            " node     what it does\n master1  check that one load balancer holds the VIP\n \
             lb1      start\n"
        );
    }

    #[test]
    fn a_cell_that_does_not_fit_is_wrapped_within_its_column() {
        let text = table().within(36);
        assert_eq!(
            text,
            " node     what it does\n master1  check that one load\n          balancer holds the VIP\n\
             \x20lb1      start\n"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 36), "{text}");
    }
}
