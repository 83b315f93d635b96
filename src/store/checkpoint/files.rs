//! The two checkpoint files of one store: read at a start, written in turn.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;

use super::{Checkpoint, CheckpointError, CheckpointHead, CheckpointWriter, FileHeader, Found, decode_content, u64_of};
use crate::limits::{CHECKPOINT_CHUNK_BYTES, CHECKPOINT_FILE_BYTES_MIN, IO_ALIGNMENT};
use crate::runtime::{Buffer, File, Runtime};
use crate::store::format::FormatError;

pub(super) const NAMES: [&str; 2] = ["checkpoint-0", "checkpoint-1"];

/// The two checkpoint files of one store.
pub struct CheckpointFiles<R: Runtime> {
    runtime: R,
    directory: PathBuf,
    files: [Option<R::File>; 2],
    /// Which file the next checkpoint goes to: never the one that holds the newest.
    next: usize,
    /// The greatest sequence ever seen, readable or not.
    pub(super) sequence: u64,
    /// The newest durable checkpoint, 0 for none.
    durable: u64,
}

impl<R: Runtime> CheckpointFiles<R> {
    /// Reads what is there. The checkpoint returned is durable: its file is flushed again, since a process that was
    /// killed may have written it without flushing.
    ///
    /// Errors: `Io`, and `Version` or `Unsupported` for what a later program wrote.
    pub async fn open(runtime: R, directory: &Path) -> Result<(CheckpointFiles<R>, Found), CheckpointError> {
        let names = runtime.list(directory).await.map_err(io("list directory"))?;
        let mut this = CheckpointFiles {
            runtime,
            directory: directory.to_path_buf(),
            files: [None, None],
            next: 0,
            sequence: 0,
            durable: 0,
        };
        let mut found = Found::Nothing;
        for (index, name) in NAMES.into_iter().enumerate() {
            if !names.iter().any(|existing| existing == name) {
                continue;
            }
            let file = this.runtime.open(&this.directory.join(name)).await.map_err(io("open"))?;
            let read = read_file(&file).await?;
            this.files[index] = Some(file);
            if let Some((sequence, _)) = &read {
                this.sequence = this.sequence.max(*sequence);
            }
            match read {
                Some((_, Some(checkpoint))) if checkpoint.sequence > this.durable => {
                    this.durable = checkpoint.sequence;
                    this.next = 1 - index;
                    found = Found::Newest(checkpoint);
                }
                _ if found == Found::Nothing => found = Found::Unreadable,
                _ => {}
            }
        }
        if let (Found::Newest(_), Some(file)) = (&found, &this.files[1 - this.next]) {
            file.flush().await.map_err(io("flush"))?;
            this.runtime.sync_directory(&this.directory).await.map_err(io("sync directory"))?;
        }
        Ok((this, found))
    }

    /// The sequences that the two files state, whole or not: while they stay the same, no checkpoint was written.
    ///
    /// Errors: `Io`.
    pub async fn stated(runtime: &R, directory: &Path) -> Result<[Option<u64>; 2], CheckpointError> {
        let names = runtime.list(directory).await.map_err(io("list directory"))?;
        let mut stated = [None; 2];
        for (sequence, name) in stated.iter_mut().zip(NAMES) {
            if !names.iter().any(|existing| existing == name) {
                continue;
            }
            let file = runtime.open(&directory.join(name)).await.map_err(io("open"))?;
            if file.bytes() >= u64_of(IO_ALIGNMENT) {
                let block = file.read_at(0, IO_ALIGNMENT).await.map_err(io("read"))?;
                *sequence = FileHeader::decode(block.as_slice()).ok().map(|header| header.sequence);
            }
        }
        Ok(stated)
    }

    /// Sequence of the newest durable checkpoint, 0 when there is none: what a segment header opened now names.
    pub fn durable_sequence(&self) -> u64 {
        self.durable
    }

    /// The next checkpoint's sequence will be above `sequence`: for a store that goes on although it lost a checkpoint
    /// that its segments name.
    pub fn raise_sequence(&mut self, sequence: u64) {
        self.sequence = self.sequence.max(sequence);
    }

    /// Makes both files, with space for a small checkpoint, while there is room: so that one can be written where there is
    /// none. That it cannot is no error, as long as nothing else is wrong.
    ///
    /// Errors: `Io`.
    pub async fn prepare(&mut self) -> Result<(), CheckpointError> {
        for index in [self.next, 1 - self.next] {
            match self.reserve(index, CHECKPOINT_FILE_BYTES_MIN).await {
                Err(error) if error.is_out_of_space() => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Has a file with space for `bytes`, and then some: each grows a few times in its life.
    async fn reserve(&mut self, index: usize, bytes: u64) -> Result<(), CheckpointError> {
        let bytes = bytes.next_power_of_two().max(CHECKPOINT_FILE_BYTES_MIN);
        match &self.files[index] {
            Some(file) if file.bytes() >= bytes => {}
            Some(file) => file.reserve(bytes).await.map_err(io("reserve space"))?,
            None => {
                let path = self.directory.join(NAMES[index]);
                let file = self.runtime.create(&path, bytes).await.map_err(io("create"))?;
                self.files[index] = Some(file);
                self.runtime.sync_directory(&self.directory).await.map_err(io("sync directory"))?;
            }
        }
        Ok(())
    }

    /// Writes a checkpoint over the older file and flushes it. Returns its sequence: it is durable now.
    ///
    /// Errors: `TooLarge` before anything was written; `Io`. The older checkpoint still counts, and what is out of space
    /// may be tried again; after any other error the file is not to be trusted.
    pub async fn write(&mut self, writer: CheckpointWriter, head: &CheckpointHead) -> Result<u64, CheckpointError> {
        let sequence = self.sequence + 1;
        let (header, content) = writer.finish(sequence, head)?;
        let bytes = u64_of(IO_ALIGNMENT) + content.bytes.next_multiple_of(u64_of(IO_ALIGNMENT));
        self.reserve(self.next, bytes).await?;
        // The next one will be of this size and go to the other file, perhaps at a start that finds no room.
        match self.reserve(1 - self.next, bytes).await {
            Err(error) if error.is_out_of_space() => {}
            other => other?,
        }
        let file = self.files[self.next].clone().expect("its space was just reserved");
        self.sequence = sequence;
        let mut position = u64_of(IO_ALIGNMENT);
        for chunk in &content.chunks {
            position = self.write_chunk(&file, chunk, position).await?;
            self.runtime.yield_now().await;
        }
        self.write_chunk(&file, &header, 0).await?;
        file.flush().await.map_err(io("flush"))?;
        self.durable = sequence;
        self.next = 1 - self.next;
        Ok(sequence)
    }

    async fn write_chunk(&self, file: &R::File, chunk: &[u8], position: u64) -> Result<u64, CheckpointError> {
        let mut buffer = self.runtime.allocate(chunk.len().next_multiple_of(IO_ALIGNMENT));
        let (filled, rest) = buffer.as_mut_slice().split_at_mut(chunk.len());
        filled.copy_from_slice(chunk);
        rest.fill(0);
        let end = position + u64_of(buffer.bytes());
        file.write_at(Rc::new(buffer), position).await.map_err(io("write"))?;
        Ok(end)
    }
}

/// What one of the two files is like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Condition {
    /// It holds no checkpoint yet.
    Blank,
    /// It holds the checkpoint of this sequence.
    Whole(u64),
    /// It does not read whole: it is being written, a crash ended that, or it is damaged.
    Broken,
}

/// The files that are there, by name, and what they are like.
///
/// Errors: `Io`, and `Version` or `Unsupported` for what a later program wrote.
pub async fn conditions<R: Runtime>(
    runtime: &R,
    directory: &Path,
) -> Result<Vec<(&'static str, Condition)>, CheckpointError> {
    let names = runtime.list(directory).await.map_err(io("list directory"))?;
    let mut found = Vec::new();
    for name in NAMES.into_iter().filter(|name| names.iter().any(|existing| existing == name)) {
        let file = runtime.open(&directory.join(name)).await.map_err(io("open"))?;
        let condition = match read_file(&file).await? {
            Some((_, Some(checkpoint))) => Condition::Whole(checkpoint.sequence),
            Some((_, None)) => Condition::Broken,
            None if file.written_from(0).map_err(io("read"))?.is_none() => Condition::Blank,
            None => {
                let block = file.read_at(0, IO_ALIGNMENT).await.map_err(io("read"))?;
                let is_blank = block.as_slice().iter().all(|byte| *byte == 0);
                if is_blank { Condition::Blank } else { Condition::Broken }
            }
        };
        found.push((name, condition));
    }
    Ok(found)
}

/// Reads a checkpoint file: nothing when the header is not one, the sequence when it is, the checkpoint when the whole
/// file is.
async fn read_file<F: File>(file: &F) -> Result<Option<(u64, Option<Checkpoint>)>, CheckpointError> {
    let content_position = u64_of(IO_ALIGNMENT);
    if file.bytes() < content_position {
        return Ok(None);
    }
    let block = file.read_at(0, IO_ALIGNMENT).await.map_err(io("read"))?;
    let header = match FileHeader::decode(block.as_slice()) {
        Ok(header) => header,
        Err(FormatError::Version(version)) => return Err(CheckpointError::Version(version)),
        Err(_) => return Ok(None),
    };
    if header.content_bytes > file.bytes() - content_position {
        return Ok(Some((header.sequence, None)));
    }
    let bytes = usize::try_from(header.content_bytes).expect("checked against the file and the bound");
    let mut content = Vec::with_capacity(bytes);
    let mut position = content_position;
    while content.len() < bytes {
        let wanted = (bytes - content.len()).min(CHECKPOINT_CHUNK_BYTES);
        let buffer = file.read_at(position, wanted.next_multiple_of(IO_ALIGNMENT)).await.map_err(io("read"))?;
        content.extend_from_slice(&buffer.as_slice()[..wanted]);
        position += u64_of(wanted);
    }
    let checkpoint = match decode_content(&header, &Bytes::from(content)) {
        Err(FormatError::Unsupported { what }) => return Err(CheckpointError::Unsupported(what)),
        decoded => decoded.ok(),
    };
    Ok(Some((header.sequence, checkpoint)))
}

fn io(operation: &'static str) -> impl FnOnce(std::io::Error) -> CheckpointError {
    move |cause| CheckpointError::Io { operation, cause }
}
