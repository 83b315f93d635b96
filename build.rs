//! What a build says of itself: the commit it was made from, and whether a defect is planted in it.
//!
//! `CORELANE_COMMIT` is for `corelane --version`: "commit 903e80c2f1", "commit 903e80c2f1 with changes" where what goes into the
//! binary differs from it, "unknown commit" outside of a repository of this package's own. A build for development says only
//! that it is one: else every commit would have it built again, its tests too.
//!
//! `CORELANE_DEFECT` plants one defect into the library, to prove that the simulation finds it:
//! `CORELANE_DEFECT=answer_before_flush cargo test --test simulation_store` builds with
//! `cfg(corelane_defect = "answer_before_flush")` and must fail. Only this package is rebuilt, unlike with `RUSTFLAGS`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the binary is made of.
const SOURCES: [&str; 4] = ["build.rs", "src", "Cargo.toml", "Cargo.lock"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CORELANE_DEFECT");
    println!("cargo::rustc-check-cfg=cfg(corelane_defect, values(any()))");
    if let Ok(defect) = std::env::var("CORELANE_DEFECT") {
        println!("cargo::warning=this build contains the planted defect {defect:?}");
        println!("cargo::rustc-cfg=corelane_defect=\"{defect}\"");
    }
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = if is_release { commit() } else { "development build".to_owned() };
    println!("cargo::rustc-env=CORELANE_COMMIT={commit}");
}

fn commit() -> String {
    SOURCES.iter().for_each(|path| println!("cargo::rerun-if-changed={path}"));
    let package = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the package is"));
    // A copy of the package inside of another repository is none of that one's commits.
    let is_own = git(&["rev-parse", "--show-toplevel"]).is_some_and(|top| same(Path::new(&top), &package));
    let head = git(&["rev-parse", "--short=10", "HEAD"]).filter(|_| is_own);
    let Some(head) = head else { return "unknown commit".to_owned() };
    // Where HEAD points to, and every move of it.
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name]).map(PathBuf::from);
        if let Some(path) = path.filter(|path| path.exists()) {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    let changes = git(&[&["--no-optional-locks", "status", "--porcelain", "--"], &SOURCES[..]].concat());
    match changes {
        Some(changes) if changes.is_empty() => format!("commit {head}"),
        _ => format!("commit {head} with changes"),
    }
}

/// What git answers; `None` where there is none, or it fails.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn same(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
