//! The `meta.properties` of a data directory and of a shard's directory: text, and how it becomes durable.
//!
//! Both say which cluster the directory belongs to and give it an id of its own, as Kafka's file of that name does. That of
//! a data directory also knows its siblings and its shards:
//!
//! ```text
//! data/meta.properties                          data/shard-1/meta.properties
//!   version=2                                     version=2
//!   cluster.id=Xm7…                               cluster.id=Xm7…
//!   directory.id=aB3…                             directory.id=qT0…
//!   directory.index=0                             shard=1
//!   directory.ids=aB3…,k9d…     in order of --data
//!   shards=2                    of the whole store, as far as they were served
//!   shard.0.directory.id=…      those that live here
//!   shard.0.used=true           false: its store was never served
//! ```
//!
//! Version 1 had `directory.count` in place of both kinds of directory ids, and nothing in the directories of shards.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::{DirectoryError, io};
use crate::limits::{PROPERTIES_BYTES_MAX, SHARDS_MAX};
use crate::types::{ShardId, TopicId};

/// Version of the directory layout that this program writes; a higher one is refused.
pub(super) const LAYOUT_VERSION: u32 = 2;

const NAME: &str = "meta.properties";
const NEW_NAME: &str = "meta.properties.new";

/// What a data directory says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct DirectoryProperties {
    /// Layout version.
    pub(super) version: u32,
    /// The store that it belongs to.
    pub(super) cluster_id: String,
    /// All data directories of the store, in order; empty in version 1.
    pub(super) directory_ids: Vec<String>,
    /// Which of them this is.
    pub(super) directory_index: usize,
    /// How many there are.
    pub(super) directory_count: usize,
    /// Shards of the whole store that were served; in version 1 those that were ever asked for.
    pub(super) shard_count: u16,
    /// The shards that live here; none in version 1.
    pub(super) shards: BTreeMap<ShardId, ShardEntry>,
}

/// What a data directory says of one of its shards.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ShardEntry {
    /// The id that the shard's directory must have.
    pub(super) directory_id: String,
    /// The store was opened there, so something may have been acknowledged: the directory cannot be done without.
    pub(super) is_used: bool,
}

/// What a shard's directory says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ShardProperties {
    /// The store that it belongs to.
    pub(super) cluster_id: String,
    /// Its own id.
    pub(super) directory_id: String,
    /// Whose log it holds.
    pub(super) shard: ShardId,
}

/// A new id in Kafka's form: 22 characters of base64, the first of which is no dash, so that tools take it as an argument.
pub(super) fn random_id() -> String {
    loop {
        let id = TopicId::new(*Uuid::new_v4().as_bytes()).to_string();
        if !id.starts_with('-') {
            return id;
        }
    }
}

/// Where a directory says what it is.
pub(super) fn path_in(directory: &Path) -> PathBuf {
    directory.join(NAME)
}

/// Replaces `meta.properties` of a directory by `text`, durably: a crash leaves the old file or the new one.
pub(super) fn replace(directory: &Path, text: &str) -> io::Result<()> {
    let new = directory.join(NEW_NAME);
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path_in(directory))?;
    File::open(directory)?.sync_all()
}

impl DirectoryProperties {
    /// Reads those of a data directory; `None` where there is no file.
    pub(super) fn read(directory: &Path) -> Result<Option<DirectoryProperties>, DirectoryError> {
        let Some(values) = Values::read(directory)? else { return Ok(None) };
        let version = values.version()?;
        let shard_count = values.number("shards", |count: &u16| *count <= SHARDS_MAX)?;
        let directory_index = values.number("directory.index", |_| true)?;
        let mut this = DirectoryProperties {
            version,
            cluster_id: values.id("cluster.id")?,
            directory_ids: Vec::new(),
            directory_index,
            directory_count: 0,
            shard_count,
            shards: BTreeMap::new(),
        };
        if version == 1 {
            this.directory_count = values.number("directory.count", |count| *count > directory_index)?;
            return Ok(Some(this));
        }
        this.directory_ids = values.value("directory.ids")?.split(',').map(|id| id.trim().to_owned()).collect();
        this.directory_count = this.directory_ids.len();
        let are_ids = this.directory_ids.iter().all(|id| is_id(id));
        let are_different = this.directory_ids.iter().collect::<BTreeSet<_>>().len() == this.directory_count;
        if !are_ids || !are_different {
            return Err(values.damaged("directory.ids"));
        }
        if this.directory_ids.get(directory_index) != Some(&values.id("directory.id")?) {
            return Err(values.damaged("directory.id"));
        }
        for shard in (0..SHARDS_MAX).map(ShardId::new) {
            let (id_key, used_key) = shard_keys(shard);
            if !values.has(&id_key) && !values.has(&used_key) {
                continue;
            }
            if shard.index() % this.directory_count != directory_index {
                return Err(values.damaged(&id_key));
            }
            let is_used = match values.value(&used_key)? {
                "true" => true,
                "false" => false,
                _ => return Err(values.damaged(&used_key)),
            };
            this.shards.insert(shard, ShardEntry { directory_id: values.id(&id_key)?, is_used });
        }
        Ok(Some(this))
    }

    /// The file.
    pub(super) fn text(&self) -> String {
        assert!(self.version == LAYOUT_VERSION);
        assert!(self.directory_ids.len() == self.directory_count);
        let mut text = format!(
            "# Written by corelane. Do not edit: it says which directories belong to this store.\n\
             version={LAYOUT_VERSION}\ncluster.id={}\ndirectory.id={}\ndirectory.index={}\ndirectory.ids={}\nshards={}\n",
            self.cluster_id,
            self.directory_ids[self.directory_index],
            self.directory_index,
            self.directory_ids.join(","),
            self.shard_count,
        );
        for (shard, entry) in &self.shards {
            let (id_key, used_key) = shard_keys(*shard);
            writeln!(text, "{id_key}={}\n{used_key}={}", entry.directory_id, entry.is_used).expect("a string grows");
        }
        text
    }
}

fn shard_keys(shard: ShardId) -> (String, String) {
    (format!("shard.{shard}.directory.id"), format!("shard.{shard}.used"))
}

impl ShardProperties {
    /// Reads those of a shard's directory; `None` where there is no file.
    pub(super) fn read(directory: &Path) -> Result<Option<ShardProperties>, DirectoryError> {
        let Some(values) = Values::read(directory)? else { return Ok(None) };
        values.version()?;
        Ok(Some(ShardProperties {
            cluster_id: values.id("cluster.id")?,
            directory_id: values.id("directory.id")?,
            shard: ShardId::new(values.number("shard", |shard| *shard < SHARDS_MAX)?),
        }))
    }

    /// The file.
    pub(super) fn text(&self) -> String {
        format!(
            "# Written by corelane. Do not edit: it says whose directory this is.\n\
             version={LAYOUT_VERSION}\ncluster.id={}\ndirectory.id={}\nshard={}\n",
            self.cluster_id, self.directory_id, self.shard
        )
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 22 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// The lines of one file.
struct Values {
    directory: PathBuf,
    values: BTreeMap<String, String>,
}

impl Values {
    fn read(directory: &Path) -> Result<Option<Values>, DirectoryError> {
        let path = path_in(directory);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(&path, "read it")(error)),
        };
        let mut text = Vec::new();
        file.take(PROPERTIES_BYTES_MAX).read_to_end(&mut text).map_err(io(&path, "read it"))?;
        let values = String::from_utf8_lossy(&text)
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
            .collect();
        Ok(Some(Values { directory: directory.to_path_buf(), values }))
    }

    fn damaged(&self, key: &str) -> DirectoryError {
        DirectoryError::Damaged { path: path_in(&self.directory).display().to_string(), key: key.to_owned() }
    }

    fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    fn value(&self, key: &str) -> Result<&str, DirectoryError> {
        self.values.get(key).map(String::as_str).ok_or_else(|| self.damaged(key))
    }

    fn number<T: std::str::FromStr>(&self, key: &str, is_valid: impl Fn(&T) -> bool) -> Result<T, DirectoryError> {
        self.value(key)?.parse().ok().filter(is_valid).ok_or_else(|| self.damaged(key))
    }

    fn id(&self, key: &str) -> Result<String, DirectoryError> {
        let id = self.value(key)?;
        if is_id(id) { Ok(id.to_owned()) } else { Err(self.damaged(key)) }
    }

    /// Asked for first: what a later program wrote may look damaged otherwise.
    fn version(&self) -> Result<u32, DirectoryError> {
        let version = self.number("version", |version| *version > 0)?;
        if version > LAYOUT_VERSION {
            let path = self.directory.display().to_string();
            return Err(DirectoryError::NewerVersion { path, found: version });
        }
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::scratch;
    use super::*;

    fn id(letter: char) -> String {
        letter.to_string().repeat(22)
    }

    fn directory() -> DirectoryProperties {
        let entry = |letter, is_used| ShardEntry { directory_id: id(letter), is_used };
        DirectoryProperties {
            version: LAYOUT_VERSION,
            cluster_id: id('c'),
            directory_ids: vec![id('a'), id('b')],
            directory_index: 1,
            directory_count: 2,
            shard_count: 5,
            shards: [(ShardId::new(1), entry('s', true)), (ShardId::new(3), entry('t', false))].into(),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let scratch = scratch();
        assert_eq!(DirectoryProperties::read(scratch.path()).unwrap(), None);
        replace(scratch.path(), &directory().text()).unwrap();
        assert_eq!(DirectoryProperties::read(scratch.path()).unwrap(), Some(directory()));
        let shard = ShardProperties { cluster_id: id('c'), directory_id: id('s'), shard: ShardId::new(1) };
        replace(scratch.path(), &shard.text()).unwrap();
        assert_eq!(ShardProperties::read(scratch.path()).unwrap(), Some(shard));
    }

    #[test]
    fn every_damaged_line_is_found() {
        let scratch = scratch();
        let text = directory().text();
        for (index, line) in text.lines().enumerate().skip(1) {
            let key = line.split('=').next().unwrap();
            for damaged in [String::new(), format!("{key}="), format!("{key}=?")] {
                let lines = text.lines().enumerate().map(|(at, line)| if at == index { &damaged } else { line });
                replace(scratch.path(), &lines.collect::<Vec<_>>().join("\n")).unwrap();
                let error = DirectoryProperties::read(scratch.path()).unwrap_err();
                assert!(matches!(&error, DirectoryError::Damaged { .. }), "{line} -> {damaged}: {error}");
            }
        }
    }

    #[test]
    fn ids_are_those_of_kafka_and_differ() {
        let ids: BTreeSet<String> = (0..200).map(|_| random_id()).collect();
        assert_eq!(ids.len(), 200);
        assert!(ids.iter().all(|id| is_id(id) && !id.starts_with('-')));
    }
}
