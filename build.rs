//! Lets the environment plant one defect into the library, to prove that the simulation finds it.
//!
//! `CORELANE_DEFECT=answer_before_flush cargo test --test simulation_store` builds with
//! `cfg(corelane_defect = "answer_before_flush")` and must fail. Only this package is rebuilt, unlike with `RUSTFLAGS`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CORELANE_DEFECT");
    println!("cargo::rustc-check-cfg=cfg(corelane_defect, values(any()))");
    if let Ok(defect) = std::env::var("CORELANE_DEFECT") {
        println!("cargo::warning=this build contains the planted defect {defect:?}");
        println!("cargo::rustc-cfg=corelane_defect=\"{defect}\"");
    }
}
