//! The content of one simulated file: what is durable, and beside it every write that completed and was not flushed.
//!
//! Pure bookkeeping; chance comes in as closures. Content is kept in 4 KiB pages, and a write notes which of a page's
//! eight sectors it wrote, because a torn write reaches only some of them.
//!
//! Invariant: the versions of a page stand in the order in which their writes completed; the newest content of a
//! sector is its last version, or the durable content when it has none.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::limits::IO_ALIGNMENT;

/// What a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

/// One bit per sector of a page.
type Sectors = u8;
const _: () = assert!(IO_ALIGNMENT / SECTOR_BYTES == 8);
const ALL_SECTORS: Sectors = Sectors::MAX;

/// Content of a page; `None` where a page is all zero.
pub(super) type Content = Rc<[u8]>;

/// Numbers the writes of a disk in the order of their completion, from 1.
pub(super) type WriteNumber = u64;

/// The content of one file.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    pages: BTreeMap<u64, Page>,
    /// Pages with versions.
    unflushed: BTreeSet<u64>,
    bytes: u64,
    durable_bytes: u64,
    /// Pages below the end that have no space.
    holes: BTreeSet<u64>,
}

#[derive(Clone, Debug, Default)]
struct Page {
    durable: Option<Content>,
    versions: Vec<Version>,
}

/// What one write left of itself on one page, not durable yet.
#[derive(Clone, Debug)]
struct Version {
    write: WriteNumber,
    sectors: Sectors,
    content: Content,
    /// A flush failed after this write: the system holds it for clean, so no later flush makes it durable.
    lost: bool,
}

impl Image {
    /// A file of `bytes` zeroes whose size is not durable yet.
    pub(super) fn new(bytes: u64) -> Image {
        Image { bytes, ..Image::default() }
    }

    /// Size of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Space that it takes, in bytes.
    pub(super) fn allocated_bytes(&self) -> u64 {
        self.bytes - wide(self.holes.len() * IO_ALIGNMENT).min(self.bytes)
    }

    /// Where the first page at or behind `position` begins that something was written to, or `position` within it.
    pub(super) fn written_from(&self, position: u64) -> Option<u64> {
        let mut pages = self.pages.range(page_number(position)..);
        let (number, _) = pages.find(|(_, page)| page.newest().is_some())?;
        Some(position.max(number * wide(IO_ALIGNMENT)))
    }

    /// Space that a write of `bytes` at `position` needs beside what there is.
    pub(super) fn missing_bytes(&self, position: u64, bytes: u64) -> u64 {
        let end = position + bytes;
        let holes = self.holes.range(page_number(position)..page_number(end)).count();
        wide(holes * IO_ALIGNMENT) + end.saturating_sub(self.bytes)
    }

    /// It has at least `bytes` bytes, with space for all.
    pub(super) fn reserve(&mut self, bytes: u64) {
        self.bytes = self.bytes.max(bytes);
        self.holes.clear();
    }

    /// The pages of a range, which were zeroed, have no space any more.
    pub(super) fn punch(&mut self, position: u64, bytes: u64) {
        self.holes.extend(page_number(position)..page_number(position + bytes));
    }

    /// The size as of now is durable.
    pub(super) fn make_size_durable(&mut self) {
        self.durable_bytes = self.bytes;
    }

    /// A write arrives, of which the sectors chosen by `reaches` (counted from the start of the write) reach the disk.
    pub(super) fn apply(
        &mut self,
        write: WriteNumber,
        position: u64,
        bytes: &[u8],
        mut reaches: impl FnMut(usize) -> bool,
    ) {
        let mut reached = false;
        for (page_index, chunk) in bytes.chunks_exact(IO_ALIGNMENT).enumerate() {
            let mut sectors: Sectors = 0;
            for sector in 0..IO_ALIGNMENT / SECTOR_BYTES {
                if reaches(page_index * (IO_ALIGNMENT / SECTOR_BYTES) + sector) {
                    sectors |= 1 << sector;
                }
            }
            if sectors != 0 {
                let number = page_number(position) + wide(page_index);
                self.pages.entry(number).or_default().push(Version {
                    write,
                    sectors,
                    content: Rc::from(chunk),
                    lost: false,
                });
                self.unflushed.insert(number);
                self.holes.remove(&number);
                reached = true;
            }
        }
        if reached {
            self.bytes = self.bytes.max(position + wide(bytes.len()));
        }
    }

    /// The newest content of the page at `position`.
    pub(super) fn newest(&self, position: u64) -> Option<Content> {
        self.pages.get(&page_number(position))?.newest()
    }

    /// The durable content of the page at `position`.
    #[cfg(test)]
    pub(super) fn durable(&self, position: u64) -> Option<Content> {
        self.pages.get(&page_number(position))?.durable.clone()
    }

    /// A flush that began after write number `last` ended with success.
    pub(super) fn make_durable(&mut self, last: WriteNumber) {
        let pages = &mut self.pages;
        self.unflushed.retain(|number| {
            let page = pages.get_mut(number).expect("an unflushed page exists");
            page.make_durable(last);
            !page.versions.is_empty()
        });
    }

    /// A flush that began after write number `last` failed: those writes stay visible and will never become durable.
    pub(super) fn give_up(&mut self, last: WriteNumber) {
        for number in &self.unflushed {
            let page = self.pages.get_mut(number).expect("an unflushed page exists");
            for version in page.versions.iter_mut().filter(|version| version.write <= last) {
                version.lost = true;
            }
        }
    }

    /// The power was cut. Of each sector, the last version that `persists` is what the disk holds from now on.
    pub(super) fn settle(&mut self, grown: bool, mut persists: impl FnMut(WriteNumber) -> bool) {
        for number in std::mem::take(&mut self.unflushed) {
            self.pages.get_mut(&number).expect("an unflushed page exists").settle(&mut persists);
        }
        if !grown {
            self.bytes = self.durable_bytes;
            self.pages.retain(|&number, _| number * wide(IO_ALIGNMENT) < self.durable_bytes);
        }
        self.durable_bytes = self.bytes;
        // What the power cut brought back has its space.
        let (pages, bytes) = (&self.pages, self.bytes);
        self.holes.retain(|number| {
            let content = pages.get(number).and_then(Page::newest);
            let is_zero = content.is_none_or(|content| content.iter().all(|byte| *byte == 0));
            is_zero && number * wide(IO_ALIGNMENT) < bytes
        });
    }

    /// Flips one bit of the byte at `position`, wherever that byte is kept.
    pub(super) fn flip_bit(&mut self, position: u64, bit: u8) {
        assert!(position < self.bytes);
        assert!(bit < 8);
        let within = usize::try_from(position % wide(IO_ALIGNMENT)).expect("below a page");
        let page = self.pages.entry(page_number(position)).or_default();
        let flip = |content: &Content| {
            let mut bytes = content.to_vec();
            bytes[within] ^= 1 << bit;
            Content::from(bytes)
        };
        page.durable = Some(flip(&page.durable.clone().unwrap_or_else(zeroes)));
        for version in &mut page.versions {
            version.content = flip(&version.content);
        }
    }

    /// Sets content and size at once, durably.
    pub(super) fn plant(&mut self, bytes: &[u8]) {
        *self = Image::new(wide(bytes.len()));
        for (number, chunk) in (0..).zip(bytes.chunks(IO_ALIGNMENT)) {
            let mut content = vec![0; IO_ALIGNMENT];
            content[..chunk.len()].copy_from_slice(chunk);
            self.pages.insert(number, Page { durable: Some(Content::from(content)), versions: Vec::new() });
        }
        self.make_size_durable();
    }
}

impl Page {
    fn push(&mut self, version: Version) {
        assert!(self.versions.last().is_none_or(|last| last.write < version.write));
        self.versions.push(version);
    }

    fn newest(&self) -> Option<Content> {
        match self.versions.last() {
            None => self.durable.clone(),
            Some(last) if last.sectors == ALL_SECTORS => Some(Rc::clone(&last.content)),
            Some(_) => overlaid(self.durable.as_ref(), self.versions.iter().map(|version| (version, version.sectors))),
        }
    }

    fn make_durable(&mut self, last: WriteNumber) {
        let covered = |version: &Version| version.write <= last && !version.lost;
        let flushed = self.versions.iter().filter(|version| covered(version));
        self.durable = overlaid(self.durable.as_ref(), flushed.map(|version| (version, version.sectors)));
        // A lost version below a flushed one is overwritten for good.
        let mut overwritten: Sectors = 0;
        for version in self.versions.iter_mut().rev() {
            if covered(version) {
                overwritten |= version.sectors;
                version.sectors = 0;
            } else if version.lost {
                version.sectors &= !overwritten;
            }
        }
        self.versions.retain(|version| version.sectors != 0);
    }

    fn settle(&mut self, persists: &mut impl FnMut(WriteNumber) -> bool) {
        let mut chosen = Vec::with_capacity(self.versions.len());
        for version in &self.versions {
            let mut sectors: Sectors = 0;
            for sector in 0..IO_ALIGNMENT / SECTOR_BYTES {
                let bit = 1 << sector;
                if version.sectors & bit != 0 && persists(version.write) {
                    sectors |= bit;
                }
            }
            chosen.push((version, sectors));
        }
        self.durable = overlaid(self.durable.as_ref(), chosen.into_iter());
        self.versions.clear();
    }
}

/// The page that results when versions come down on `base` one after the other, each with the given sectors.
fn overlaid<'a>(base: Option<&Content>, versions: impl Iterator<Item = (&'a Version, Sectors)>) -> Option<Content> {
    let mut shared = base.cloned();
    let mut own: Option<Vec<u8>> = None;
    for (version, sectors) in versions {
        if sectors == ALL_SECTORS {
            shared = Some(Rc::clone(&version.content));
            own = None;
        } else if sectors != 0 {
            let bytes = own.get_or_insert_with(|| shared.clone().unwrap_or_else(zeroes).to_vec());
            for sector in (0..IO_ALIGNMENT / SECTOR_BYTES).filter(|sector| sectors & (1 << sector) != 0) {
                let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                bytes[range.clone()].copy_from_slice(&version.content[range]);
            }
        }
    }
    own.map(Content::from).or(shared)
}

/// A page of zeroes.
pub(super) fn zeroes() -> Content {
    Content::from(vec![0; IO_ALIGNMENT])
}

fn page_number(position: u64) -> u64 {
    position / wide(IO_ALIGNMENT)
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).expect("sizes fit into 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(byte: u8) -> Vec<u8> {
        vec![byte; IO_ALIGNMENT]
    }

    fn first_bytes(content: &Content) -> Vec<u8> {
        content.iter().step_by(SECTOR_BYTES).copied().collect()
    }

    #[test]
    fn newest_is_the_last_write_and_durable_the_last_flushed() {
        let mut image = Image::new(8192);
        image.apply(1, 0, &page(1), |_| true);
        image.apply(2, 0, &page(2), |_| true);
        image.make_durable(1);
        assert_eq!(first_bytes(&image.newest(0).unwrap()), [2; 8]);
        assert_eq!(first_bytes(&image.durable(0).unwrap()), [1; 8]);
        image.make_durable(2);
        assert_eq!(first_bytes(&image.durable(0).unwrap()), [2; 8]);
        assert!(image.newest(4096).is_none());
    }

    #[test]
    fn a_power_cut_may_keep_an_early_rewrite_and_lose_a_later_one() {
        let mut image = Image::new(4096);
        for write in 1..=3 {
            image.apply(write, 0, &page(u8::try_from(write).unwrap()), |_| true);
        }
        let mut calls = 0;
        image.settle(true, |write| {
            calls += 1;
            // The first four sectors keep write 2, the others keep nothing.
            write == 2 && calls <= 12
        });
        assert_eq!(first_bytes(&image.newest(0).unwrap()), [2, 2, 2, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn a_torn_write_leaves_old_sectors() {
        let mut image = Image::new(4096);
        image.apply(1, 0, &page(1), |_| true);
        image.apply(2, 0, &page(2), |sector| sector % 2 == 0);
        assert_eq!(first_bytes(&image.newest(0).unwrap()), [2, 1, 2, 1, 2, 1, 2, 1]);
        image.make_durable(2);
        assert_eq!(first_bytes(&image.durable(0).unwrap()), [2, 1, 2, 1, 2, 1, 2, 1]);
    }

    #[test]
    fn what_a_failed_flush_gave_up_no_later_flush_saves() {
        let mut image = Image::new(8192);
        image.apply(1, 0, &page(1), |_| true);
        image.give_up(1);
        image.apply(2, 4096, &page(2), |_| true);
        image.make_durable(2);
        assert_eq!(first_bytes(&image.newest(0).unwrap()), [1; 8]);
        image.settle(true, |_| false);
        assert!(image.newest(0).is_none());
        assert_eq!(first_bytes(&image.newest(4096).unwrap()), [2; 8]);
    }

    #[test]
    fn a_lost_version_does_not_come_back_over_a_flushed_rewrite() {
        let mut image = Image::new(4096);
        image.apply(1, 0, &page(1), |_| true);
        image.give_up(1);
        image.apply(2, 0, &page(2), |sector| sector < 4);
        image.make_durable(2);
        image.settle(true, |_| true);
        assert_eq!(first_bytes(&image.newest(0).unwrap()), [2, 2, 2, 2, 1, 1, 1, 1]);
    }

    #[test]
    fn growth_that_is_not_durable_may_vanish() {
        let mut image = Image::new(4096);
        image.make_size_durable();
        image.apply(1, 4096, &page(1), |_| true);
        assert_eq!(image.bytes(), 8192);
        image.settle(false, |_| true);
        assert_eq!(image.bytes(), 4096);
        assert!(image.newest(4096).is_none());
    }

    #[test]
    fn a_flipped_bit_is_flipped_for_every_reader() {
        let mut image = Image::new(4096);
        image.apply(1, 0, &page(1), |_| true);
        image.flip_bit(700, 3);
        assert_eq!(image.newest(0).unwrap()[700], 9);
        image.settle(true, |_| false);
        assert_eq!(image.newest(0).unwrap()[700], 8);
    }
}
