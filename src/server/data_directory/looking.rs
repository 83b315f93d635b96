//! Which shards the data directories hold, for tools: nothing is locked, made or judged beyond that.

use std::path::PathBuf;

use super::belonging::shard_path;
use super::{DirectoryError, check_overlap, find};
use crate::runtime::glommio::device_bytes;
use crate::types::ShardId;

/// A shard that a data directory holds.
#[derive(Clone, Debug)]
pub struct ShardDirectory {
    /// Which.
    pub shard: ShardId,
    /// Where its store lies.
    pub path: PathBuf,
    /// Its share of the device, in bytes: what `serve` lets it use.
    pub budget_bytes: u64,
}

/// The shards that these data directories hold, by number.
///
/// Errors: `Nothing` for a directory without a store, `LostShard` where one that was in use is gone; what cannot be read.
pub fn shards_in(paths: &[PathBuf]) -> Result<Vec<ShardDirectory>, DirectoryError> {
    let mut all = Vec::new();
    for path in paths {
        if !path.is_dir() {
            return Err(DirectoryError::NotADirectory { path: path.display().to_string() });
        }
    }
    check_overlap(paths)?;
    for path in paths {
        let found = find(path)?;
        let listed = found.properties.map_or_else(Default::default, |properties| properties.shards);
        for (shard, entry) in listed {
            let is_there =
                found.shards.get(&shard).is_some_and(|shard| shard.segment_files > 0 || shard.has_checkpoints);
            if entry.is_used && !is_there {
                let what = if found.shards.contains_key(&shard) { "holds no log" } else { "is missing" };
                return Err(DirectoryError::LostShard {
                    path: shard_path(path, shard).display().to_string(),
                    what,
                    shard,
                });
            }
        }
        if found.shards.is_empty() {
            return Err(DirectoryError::Nothing { path: path.display().to_string() });
        }
        let beside = u64::try_from(found.shards.len()).expect("a count fits 64 bits");
        let budget_bytes = device_bytes(path) / 100 * 85 / beside;
        let shards = found.shards.into_keys();
        all.extend(shards.map(|shard| ShardDirectory { shard, path: shard_path(path, shard), budget_bytes }));
    }
    all.sort_by_key(|found| found.shard);
    Ok(all)
}
