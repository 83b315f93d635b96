//! Whether the directories given are those of one store, and which steps make them so: decided here, from what was found,
//! and done elsewhere.
//!
//! **Order of writing.** The data directories first say which shards they are going to hold (`used=false`), then the shards'
//! directories are made, each with an id of its own, then the stores in them are opened, and only when all are does every data
//! directory say that they are in use; nothing is served before that. So an unused shard may be missing in any way, for
//! nothing of it was ever acknowledged, and a used one must be there, be the one meant, and hold a log. Where *no* shard is
//! in use, a whole data directory may be missing: the first start did not come so far.
//!
//! `--accept-loss` goes past what is missing, never past what belongs elsewhere: nobody's directory is overwritten.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::DirectoryError;
use super::properties::{DirectoryProperties, LAYOUT_VERSION, ShardEntry, ShardProperties, path_in};
use crate::types::ShardId;

/// A data directory as found.
#[derive(Clone, Debug)]
pub(super) struct FoundDirectory {
    pub(super) path: PathBuf,
    pub(super) properties: Option<DirectoryProperties>,
    /// The `shard-N` in it.
    pub(super) shards: BTreeMap<ShardId, FoundShard>,
}

impl FoundDirectory {
    fn shard_path(&self, shard: ShardId) -> PathBuf {
        shard_path(&self.path, shard)
    }

    /// A copy of what is known of a shard, for one that is not there that it is blank.
    fn shard(&self, shard: ShardId) -> FoundShard {
        self.shards.get(&shard).cloned().unwrap_or_default()
    }

    /// Version 1 counted a shard before it was there.
    fn is_used(&self) -> bool {
        match &self.properties {
            Some(properties) if properties.version > 1 => properties.shard_count > 0,
            Some(_) => self.shards.values().any(|shard| shard.has_segments()),
            None => self.shards.values().any(|shard| !shard.is_blank()),
        }
    }
}

/// Where a shard lives in its data directory.
pub(super) fn shard_path(data: &Path, shard: ShardId) -> PathBuf {
    data.join(format!("shard-{shard}"))
}

/// A shard's directory as found.
#[derive(Clone, Debug, Default)]
pub(super) struct FoundShard {
    pub(super) properties: Option<ShardProperties>,
    /// How many segment files it holds.
    pub(super) segment_files: u64,
    /// It holds checkpoint files.
    pub(super) has_checkpoints: bool,
    /// The shard that a segment's header names.
    pub(super) segments_of: Option<ShardId>,
}

impl FoundShard {
    fn has_segments(&self) -> bool {
        self.segment_files > 0
    }

    /// Nothing of ours is in it: a new directory, or the mount point of a disk that is not there.
    fn is_blank(&self) -> bool {
        self.properties.is_none() && !self.has_segments() && !self.has_checkpoints
    }
}

/// What the operator asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// `--shards`.
    pub shards: Option<u16>,
    /// How many there shall be at least when it is not given.
    pub shards_default: u16,
    /// `--accept-loss`.
    pub accept_loss: bool,
}

/// What is to be done on disk. Each step is durable before the next one begins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Makes a directory, if it is not there.
    Create(PathBuf),
    /// Replaces the `meta.properties` of a directory.
    Write(PathBuf, String),
}

/// The store that the directories make up.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) cluster_id: String,
    /// Shards to run.
    pub(super) shard_count: u16,
    /// The data directories in the order in which shards go round, as they are once `steps` are done.
    pub(super) directories: Vec<(PathBuf, DirectoryProperties)>,
    /// To be done before the stores are opened.
    pub(super) steps: Vec<Step>,
    /// Losses accepted.
    pub(super) warnings: Vec<String>,
    /// No store was there.
    pub(super) is_new: bool,
}

impl Plan {
    /// To be done once all stores are open and before anything is served: every shard is in use.
    pub(super) fn steps_to_used(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (path, properties) in &self.directories {
            let mut used = properties.clone();
            used.shard_count = self.shard_count;
            for (shard, entry) in &mut used.shards {
                entry.is_used |= shard.value() < self.shard_count;
            }
            if used != *properties {
                steps.push(Step::Write(path.clone(), used.text()));
            }
        }
        steps
    }
}

/// Holds what was found against what the directories say of themselves and of each other.
///
/// Errors: whatever an operator must look at; nothing was changed then.
pub(super) fn judge(
    found: Vec<FoundDirectory>,
    wanted: Wanted,
    new_id: &mut dyn FnMut() -> String,
) -> Result<Plan, DirectoryError> {
    let cluster_id = cluster_of(&found)?;
    let was_used = found.iter().any(FoundDirectory::is_used);
    let is_new = cluster_id.is_none() && !was_used;
    let cluster_id = cluster_id.unwrap_or_else(&mut *new_id);
    let found = in_order(found)?;
    let ids = directory_ids(&found, was_used, new_id)?;
    let shards_used = if was_used { shards_used(&found) } else { 0 };
    let accept_loss = wanted.accept_loss;
    let mut judge = Judge {
        accept_loss,
        cluster_id,
        directory_count: found.len(),
        shards_used,
        new_id,
        adoptions: Vec::new(),
        creations: Vec::new(),
        warnings: Vec::new(),
    };
    let mut shards = Vec::new();
    for (index, directory) in found.iter().enumerate() {
        shards.push(judge.entries(index, directory)?);
    }
    if let Some(asked) = wanted.shards.filter(|asked| *asked < shards_used) {
        return Err(DirectoryError::TooFewShards { asked, shards: shards_used });
    }
    let shard_count = shards_used.max(wanted.shards.unwrap_or(wanted.shards_default));
    for shard in (0..shard_count).map(ShardId::new) {
        let index = shard.index() % found.len();
        if !shards[index].contains_key(&shard) {
            let entry = judge.unused(&found[index], shard);
            shards[index].insert(shard, entry);
        }
    }
    let Judge { cluster_id, adoptions, creations, warnings, .. } = judge;
    // Those that say something of themselves come first: the others are missing as long as they say nothing.
    let (mut steps, mut later_steps) = (adoptions, creations);
    let mut directories = Vec::new();
    for (directory_index, (directory, shards)) in found.into_iter().zip(shards).enumerate() {
        let properties = DirectoryProperties {
            version: LAYOUT_VERSION,
            cluster_id: cluster_id.clone(),
            directory_ids: ids.clone(),
            directory_index,
            directory_count: ids.len(),
            shard_count: shards_used,
            shards,
        };
        let write = Step::Write(directory.path.clone(), properties.text());
        match &directory.properties {
            Some(known) if *known == properties => {}
            Some(_) => steps.push(write),
            None => later_steps.insert(0, write),
        }
        directories.push((directory.path, properties));
    }
    steps.extend(later_steps);
    Ok(Plan { cluster_id, shard_count, directories, steps, warnings, is_new })
}

/// The cluster that all directories belong to; `None` where there is nothing yet.
fn cluster_of(found: &[FoundDirectory]) -> Result<Option<String>, DirectoryError> {
    let mut cluster: Option<String> = None;
    let known = found.iter().filter_map(|found| Some((found, found.properties.as_ref()?)));
    for (directory, DirectoryProperties { cluster_id, .. }) in known {
        let cluster = cluster.get_or_insert_with(|| cluster_id.clone());
        if cluster != cluster_id {
            let path = directory.path.display().to_string();
            return Err(DirectoryError::Cluster { path, found: cluster_id.clone(), expected: cluster.clone() });
        }
    }
    let mut shards = found.iter().flat_map(|found| found.shards.values());
    Ok(cluster.or_else(|| shards.find_map(|shard| Some(shard.properties.as_ref()?.cluster_id.clone()))))
}

/// Puts the directories into the order that they know, whatever the order of `--data`. Those that know none fill the gaps.
fn in_order(found: Vec<FoundDirectory>) -> Result<Vec<FoundDirectory>, DirectoryError> {
    let count = found.len();
    let mut places: Vec<Option<FoundDirectory>> = found.iter().map(|_| None).collect();
    let (known, unknown): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| found.properties.is_some());
    for directory in known {
        let properties = directory.properties.as_ref().expect("chosen for having some");
        let (path, index) = (directory.path.display().to_string(), properties.directory_index);
        if properties.directory_count != count {
            return Err(DirectoryError::DirectoryCount {
                path,
                index,
                count: properties.directory_count,
                given: count,
            });
        }
        if let Some(other) = &places[index] {
            return Err(DirectoryError::SameDirectory { path, other: other.path.display().to_string(), index });
        }
        places[index] = Some(directory);
    }
    let mut unknown = unknown.into_iter();
    let filled = places.into_iter().map(|place| place.or_else(|| unknown.next()).expect("as many as places"));
    Ok(filled.collect())
}

/// The ids of all data directories. Each one's own must be the one that the others know it by; those that have none get one.
fn directory_ids(
    found: &[FoundDirectory],
    was_used: bool,
    new_id: &mut dyn FnMut() -> String,
) -> Result<Vec<String>, DirectoryError> {
    let with_ids = || found.iter().filter_map(|found| found.properties.as_ref()).filter(|known| known.version > 1);
    for (index, directory) in found.iter().enumerate() {
        let Some(own) = directory.properties.as_ref().filter(|known| known.version > 1) else { continue };
        let id = &own.directory_ids[index];
        if let Some(other) = with_ids().find(|other| other.directory_ids[index] != *id) {
            return Err(DirectoryError::Foreign {
                path: directory.path.display().to_string(),
                holds: format!("a directory of another time of this store, with directory.id {id}"),
                wanted: format!("the one with directory.id {}", other.directory_ids[index]),
            });
        }
    }
    let listed = with_ids().next().map(|properties| &properties.directory_ids);
    let id = |(index, directory): (usize, &FoundDirectory)| match listed {
        Some(listed) if directory.properties.is_some() || !was_used => listed[index].clone(),
        // A lost directory that comes back must not be taken for the one that replaces it.
        _ => new_id(),
    };
    Ok(found.iter().enumerate().map(id).collect())
}

/// How many shards were served, of a store that was.
fn shards_used(found: &[FoundDirectory]) -> u16 {
    let listed = found.iter().filter_map(|found| found.properties.as_ref()).map(|known| known.shard_count).max();
    let is_there = |(shard, found): (&ShardId, &FoundShard)| (!found.is_blank()).then(|| shard.value() + 1);
    // Without any list it is as many as there are traces of.
    let traces = || found.iter().flat_map(|found| &found.shards).filter_map(is_there).max();
    listed.or_else(traces).unwrap_or(0)
}

struct Judge<'a> {
    accept_loss: bool,
    cluster_id: String,
    directory_count: usize,
    /// Shards of which something may have been acknowledged.
    shards_used: u16,
    new_id: &'a mut dyn FnMut() -> String,
    /// Give shards' directories that are in use the identity that they lack.
    adoptions: Vec<Step>,
    /// Make directories for shards that are not in use.
    creations: Vec<Step>,
    warnings: Vec<String>,
}

impl Judge<'_> {
    /// The shards of a data directory, as far as it had them before.
    fn entries(
        &mut self,
        index: usize,
        directory: &FoundDirectory,
    ) -> Result<BTreeMap<ShardId, ShardEntry>, DirectoryError> {
        let mut entries = BTreeMap::new();
        let used = (0..self.shards_used).map(ShardId::new);
        let used: Vec<ShardId> = used.filter(|shard| shard.index() % self.directory_count == index).collect();
        match directory.properties.as_ref().filter(|properties| properties.version > 1) {
            Some(properties) => {
                for (shard, entry) in &properties.shards {
                    entries.insert(*shard, self.listed(directory, *shard, entry)?);
                }
            }
            None => {
                if directory.properties.is_none() {
                    self.check_lost(directory, &used)?;
                }
                for shard in used {
                    entries.insert(shard, self.unlisted(directory, shard)?);
                }
            }
        }
        let is_strange = |(shard, found): &(&ShardId, &FoundShard)| !found.is_blank() && !entries.contains_key(shard);
        match directory.shards.iter().find(is_strange) {
            Some((shard, _)) => {
                Err(DirectoryError::Unlisted { path: directory.shard_path(*shard).display().to_string() })
            }
            None => Ok(entries),
        }
    }

    /// A data directory that says nothing of itself: refused where it should.
    fn check_lost(&mut self, directory: &FoundDirectory, shards: &[ShardId]) -> Result<(), DirectoryError> {
        let is_blank = directory.shards.values().all(FoundShard::is_blank);
        if is_blank && self.shards_used == 0 {
            return Ok(());
        }
        let path = directory.path.display().to_string();
        if !self.accept_loss && is_blank {
            let shards: Vec<String> = shards.iter().map(ToString::to_string).collect();
            let shards = if shards.is_empty() { "none".to_owned() } else { shards.join(", ") };
            return Err(DirectoryError::LostDirectory { path, shards });
        }
        if !self.accept_loss {
            return Err(DirectoryError::NoProperties { path: path_in(&directory.path).display().to_string() });
        }
        let taken = if is_blank { "an empty directory takes its place" } else { "the shards in it are taken for all" };
        self.warnings.push(format!("{path} has no meta.properties, and that was accepted: {taken}"));
        Ok(())
    }

    /// A shard that its data directory lists.
    fn listed(
        &mut self,
        directory: &FoundDirectory,
        shard: ShardId,
        entry: &ShardEntry,
    ) -> Result<ShardEntry, DirectoryError> {
        let path = directory.shard_path(shard);
        let found = directory.shard(shard);
        if entry.is_used && found.is_blank() {
            return self.lost(directory, shard);
        }
        self.check_own(&path, shard, &found)?;
        let is_proven = found.properties.as_ref().is_some_and(|own| own.directory_id == entry.directory_id);
        if !entry.is_used && !found.has_segments() {
            if !is_proven {
                let steps = self.creation(&path, shard, &entry.directory_id);
                self.creations.extend(steps);
            }
            return Ok(entry.clone());
        }
        if !is_proven {
            if let Some(other) = found.properties {
                return Err(DirectoryError::Foreign {
                    path: path.display().to_string(),
                    holds: format!("a shard {shard} of another time, with directory.id {}", other.directory_id),
                    wanted: format!("the one with directory.id {}", entry.directory_id),
                });
            }
            if !self.accept_loss || !entry.is_used {
                return Err(DirectoryError::Unproven { path: path_in(&path).display().to_string(), shard });
            }
            self.warnings.push(format!(
                "{} has no meta.properties, and that was accepted: it is taken for shard {shard}",
                path.display()
            ));
            let steps = self.creation(&path, shard, &entry.directory_id);
            self.adoptions.extend(steps);
        }
        if !found.has_segments() {
            // What it replaces it with is written only once the store made a log there.
            self.check_loss(directory, shard)?;
        }
        Ok(entry.clone())
    }

    /// A shard that was served, in a data directory that does not list its shards.
    fn unlisted(&mut self, directory: &FoundDirectory, shard: ShardId) -> Result<ShardEntry, DirectoryError> {
        let path = directory.shard_path(shard);
        let found = directory.shard(shard);
        self.check_own(&path, shard, &found)?;
        if !found.has_segments() {
            return self.lost(directory, shard);
        }
        let directory_id = match found.properties {
            Some(properties) => properties.directory_id,
            None => {
                let id = (self.new_id)();
                let steps = self.creation(&path, shard, &id);
                self.adoptions.extend(steps);
                id
            }
        };
        Ok(ShardEntry { directory_id, is_used: true })
    }

    /// Errors: what is there says that it belongs to another shard or store.
    fn check_own(&self, path: &Path, shard: ShardId, found: &FoundShard) -> Result<(), DirectoryError> {
        let holds = match (&found.properties, found.segments_of) {
            (Some(other), _) if other.cluster_id != self.cluster_id => {
                format!("shard {} of cluster {}", other.shard, other.cluster_id)
            }
            (Some(other), _) if other.shard != shard => format!("shard {} of this store", other.shard),
            (_, Some(other)) if other != shard => format!("the log of shard {other}"),
            _ => return Ok(()),
        };
        let wanted = format!("shard {shard} of cluster {}", self.cluster_id);
        Err(DirectoryError::Foreign { path: path.display().to_string(), holds, wanted })
    }

    /// The log of a shard that was served is gone. Gives what stands in its place when that is accepted.
    fn lost(&mut self, directory: &FoundDirectory, shard: ShardId) -> Result<ShardEntry, DirectoryError> {
        self.check_loss(directory, shard)?;
        Ok(self.unused(directory, shard))
    }

    fn check_loss(&mut self, directory: &FoundDirectory, shard: ShardId) -> Result<(), DirectoryError> {
        let path = directory.shard_path(shard).display().to_string();
        let what = if directory.shards.contains_key(&shard) { "holds no log" } else { "is missing" };
        if !self.accept_loss {
            return Err(DirectoryError::LostShard { path, what, shard });
        }
        let metadata = if shard == ShardId::CONTROLLER { ", and all topics with it" } else { "" };
        self.warnings.push(format!(
            "{path} {what}, and that was accepted: shard {shard} starts empty, what it had acknowledged is lost{metadata}"
        ));
        Ok(())
    }

    /// A shard of which nothing was acknowledged.
    fn unused(&mut self, directory: &FoundDirectory, shard: ShardId) -> ShardEntry {
        let directory_id = (self.new_id)();
        let steps = self.creation(&directory.shard_path(shard), shard, &directory_id);
        self.creations.extend(steps);
        ShardEntry { directory_id, is_used: false }
    }

    fn creation(&self, path: &Path, shard: ShardId, directory_id: &str) -> [Step; 2] {
        let cluster_id = self.cluster_id.clone();
        let properties = ShardProperties { cluster_id, directory_id: directory_id.to_owned(), shard };
        [Step::Create(path.to_path_buf()), Step::Write(path.to_path_buf(), properties.text())]
    }
}
