//! Every input that is kept, through its target: no engine needed.

use std::fs;
use std::path::{Path, PathBuf};

use rstrace_fuzz::TARGETS;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

#[test]
fn every_target_takes_what_is_kept_for_it() {
    for target in TARGETS {
        let folder = fixtures().join("fuzz").join(target.name);
        let files: Vec<_> = fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(!files.is_empty(), "{} has no corpus", target.name);
        for file in files {
            // (What fails names the file that it failed on.)
            println!("{}", file.display());
            (target.run)(&fs::read(&file).unwrap());
        }
    }
}

#[test]
fn every_folder_of_the_corpus_has_a_target() {
    for entry in fs::read_dir(fixtures().join("fuzz")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(rstrace_fuzz::target(&name).is_some(), "{name}");
    }
}

#[test]
fn recordings_of_real_faults_are_taken() {
    let recording = rstrace_fuzz::target("recording").unwrap();
    for entry in fs::read_dir(fixtures().join("recordings")).unwrap() {
        (recording.run)(&fs::read(entry.unwrap().path()).unwrap());
    }
}
