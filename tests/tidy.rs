//! What the compiler does not check of the house: who may import whom, where `unsafe` and glommio may stand, and that
//! every file says in its first line what it is. Nothing of taste.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each layer and the layers that it may import. A layer may always import itself.
const ARROWS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("limits", &[]),
    ("log_limiter", &["types", "limits"]),
    ("portions", &[]),
    ("metrics", &["types", "limits"]),
    ("runtime", &["types", "limits"]),
    ("protocol", &["types", "limits"]),
    ("config", &["types", "limits", "protocol"]),
    ("compaction", &["types", "limits", "protocol", "config"]),
    ("partition", &["types", "limits", "protocol", "compaction"]),
    ("cluster", &["types", "limits", "protocol", "config"]),
    ("coordinator", &["types", "limits", "protocol", "config", "cluster"]),
    ("store", &["types", "limits", "portions", "protocol", "compaction", "runtime", "metrics"]),
    (
        "shard",
        &[
            "types",
            "limits",
            "log_limiter",
            "portions",
            "metrics",
            "protocol",
            "config",
            "runtime",
            "partition",
            "compaction",
            "cluster",
            "coordinator",
            "store",
        ],
    ),
    (
        "broker",
        &[
            "types",
            "limits",
            "metrics",
            "protocol",
            "config",
            "runtime",
            "partition",
            "cluster",
            "coordinator",
            "store",
            "shard",
        ],
    ),
    (
        "api",
        &[
            "types",
            "limits",
            "metrics",
            "protocol",
            "config",
            "runtime",
            "partition",
            "cluster",
            "coordinator",
            "store",
            "shard",
            "broker",
        ],
    ),
    (
        "server",
        &[
            "types",
            "limits",
            "log_limiter",
            "metrics",
            "protocol",
            "config",
            "runtime",
            "partition",
            "cluster",
            "coordinator",
            "store",
            "shard",
            "broker",
            "api",
        ],
    ),
    ("cli", &["types", "limits", "protocol", "config", "runtime", "cluster", "store", "server"]),
    ("simulation", &["types", "limits", "runtime"]),
];

/// The rooms of the store, lowest first: each imports only itself and those before it. What the door (`store/mod.rs`) says is
/// for all.
const STORE_ROOMS: &[&str] = &[
    "format",
    "index",
    "notify",
    "pieces",
    "scan",
    "windows",
    "checkpoint",
    "state",
    "space",
    "hot",
    "cleaning",
    "scrub",
    "reading",
    "recovery",
    "inspect",
    "handle",
];

fn source_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    assert!(files.len() > 10, "the walk found the sources");
    files
}

fn layer_of(path: &Path) -> String {
    let relative = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    relative.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// Code without its tests, which may use any layer.
fn product_code(path: &Path) -> String {
    if path.components().any(|component| component.as_os_str() == "tests") {
        return String::new();
    }
    let text = fs::read_to_string(path).unwrap();
    text.split("#[cfg(test)]").next().unwrap().to_owned()
}

/// The layers named in `use crate::x` or `crate::x::y`, where `root` is `crate::`.
fn imports(code: &str, root: &str) -> BTreeSet<String> {
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split(root).skip(1))
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>())
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn layers_import_only_what_is_below_them() {
    let mut wrong = Vec::new();
    for path in source_files() {
        let layer = layer_of(&path);
        if layer == "lib" || layer == "main" {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == layer) else {
            wrong.push(format!("{}: no such layer", path.display()));
            continue;
        };
        for import in imports(&product_code(&path), "crate::") {
            let is_layer = ARROWS.iter().any(|(name, _)| *name == import);
            if is_layer && import != layer && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{} imports {import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that point up:\n{}", wrong.join("\n"));
}

#[test]
fn rooms_of_the_store_import_only_what_is_below_them() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    let door = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    for path in source_files() {
        let Ok(inside) = path.strip_prefix(&door) else { continue };
        let room = inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if room == "mod" || room == "tests" {
            continue;
        }
        let Some(height) = STORE_ROOMS.iter().position(|name| *name == room) else {
            wrong.push(format!("{}: no such room", path.display()));
            continue;
        };
        for import in imports(&product_code(&path), "crate::store::") {
            if STORE_ROOMS.iter().position(|name| *name == import).is_some_and(|other| other > height) {
                wrong.push(format!("{} imports {import}", path.display()));
            }
        }
        seen.insert(room);
    }
    assert!(wrong.is_empty(), "arrows that point up:\n{}", wrong.join("\n"));
    assert_eq!(seen.len(), STORE_ROOMS.len(), "every room is there");
}

#[test]
fn unsafe_and_glommio_stay_behind_the_runtime() {
    let mut wrong = Vec::new();
    for path in source_files() {
        let code = product_code(&path);
        let in_code = |word: &str| {
            code.lines().any(|line| {
                let code = line.split("//").next().unwrap_or_default();
                code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|token| token == word)
            })
        };
        if in_code("unsafe") && layer_of(&path) != "runtime" {
            wrong.push(format!("{}: unsafe", path.display()));
        }
        let is_implementation = path.components().any(|component| component.as_os_str() == "glommio");
        if in_code("glommio")
            && !is_implementation
            && !code.contains("runtime::glommio")
            && !path.ends_with("runtime/mod.rs")
        {
            wrong.push(format!("{}: glommio", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<String> = source_files()
        .into_iter()
        .filter(|path| !fs::read_to_string(path).unwrap().starts_with("//!"))
        .map(|path| path.display().to_string())
        .collect();
    assert!(silent.is_empty(), "no module documentation: {}", silent.join(", "));
}
