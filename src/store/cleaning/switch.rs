//! The step in which the index learns of a cold segment: from then on its rows are where their offsets lie.
//!
//! No await: what is checked is so when it is used. Rows that died while they were copied are left out, so that the footer says
//! nothing that was not so when it was made.

use super::builder::Built;
use super::rows::LiveRow;
use crate::runtime::Runtime;
use crate::store::format::Footer;
use crate::store::index::Index;
use crate::store::state::State;
use crate::store::state::segments::LiveSegment;
use crate::types::SegmentNumber;

impl<R: Runtime> State<R> {
    /// Takes in what was built, which is written but for its footer.
    pub(super) fn switch(&mut self, built: Built<R::File>) {
        let Built { header, file, data_end, mut index, is_compacted, sources } = built;
        index.retain(|row| self.index.log_start(row.log).is_some_and(|start| row.end_offset > start));
        let are_there = sources.iter().all(|(source, copy)| is_where_it_was(&self.index, *source, copy));
        assert!(are_there, "one job at a time moves rows");
        if index.is_empty() {
            // Nothing names it.
            self.segments.release(file);
            return;
        }
        let (mut rows, extents) = index.seal();
        let footer = Footer::encode(&header, header.incarnation, data_end, &mut rows, &extents, &[]);
        let footer = footer.expect("room for the footer was kept");
        self.index.add_cold(header.number, &rows, Some(extents)).expect("rows of sealed segments alone are moved");
        for row in rows.iter().filter(|_| is_compacted) {
            self.index.drop_tail(row.log, row.end_offset);
        }
        self.segments.live.insert(header.number, LiveSegment { header, file: Some(file), sealed_end: Some(data_end) });
        self.footers.push_back(footer);
        self.cleaning.built.insert(header.number, self.index.live_bytes(header.number));
        self.cleaning.has_switched = true;
    }
}

/// A row that lives is still where it was read.
fn is_where_it_was(index: &Index, source: SegmentNumber, copy: &LiveRow) -> bool {
    let is_live = index.log_start(copy.row.log).is_some_and(|start| copy.row.end_offset > start);
    !is_live || index.has_row(source, copy.directory_row, &copy.row)
}
