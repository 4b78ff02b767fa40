use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use tempfile::TempDir;

use super::files::older;
use super::read::{Reader, read_last};
use super::*;
use crate::output::selection::{Filter, Selection, Span};
use crate::output::{Sink as _, VerdictView, fixture};
use crate::verdict::{Cause, Impact};

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    (folder, path)
}

fn place(path: &Path, size: u64, files: u32) -> Place {
    Place { path: path.to_owned(), size, files }
}

fn view(cookie: u64) -> VerdictView {
    let mut view = fixture::view(&fixture::oom_killed());
    view.connection.cookie = cookie;
    view
}

fn line(cookie: u64) -> String {
    view(cookie).to_json() + "\n"
}

/// Of all verdicts.
fn cookies(path: &Path) -> (Vec<u64>, Skipped) {
    let mut cookies = Vec::new();
    let skipped = read(path, &Selection::default(), |view| cookies.push(view.connection.cookie)).unwrap();
    (cookies, skipped)
}

fn error(path: &Path) -> String {
    read(path, &Selection::default(), |_| {}).unwrap_err().to_string()
}

fn unreadable(count: u64) -> Skipped {
    Skipped { unreadable: count, omitted: 0 }
}

#[test]
fn what_was_written_is_read_in_its_order_and_takes_no_more_than_it_may() {
    let (_folder, path) = folder();
    let mut out = Appender::open(place(&path, 8000, 3)).unwrap();
    for cookie in 0..100 {
        out.append(&line(cookie)).unwrap();
        let lengths: Vec<u64> = fs::read_dir(path.parent().unwrap())
            .unwrap()
            .map(|e| e.unwrap().metadata().unwrap().len())
            .collect();
        assert!(lengths.len() <= 3 && lengths.iter().all(|length| *length <= 8000), "{lengths:?}");
    }
    let (read, skipped) = cookies(&path);
    assert!(read.len() > 14, "{read:?}");
    assert_eq!(read, (100 - read.len() as u64..100).collect::<Vec<_>>());
    assert_eq!(skipped, Skipped::default());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(older(&path, 2)).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_line_is_the_one_of_the_contract() {
    let (_folder, path) = folder();
    Appender::open(place(&path, 8000, 2)).unwrap().append(&line(7)).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), view(7).to_json() + "\n");
    let mut views = Vec::new();
    read(&path, &Selection::default(), |view| views.push(view)).unwrap();
    assert_eq!(views, [view(7)]);
}

#[test]
fn a_rotation_that_was_interrupted_anywhere_costs_the_oldest_file_only() {
    for done in 0..=4 {
        let (_folder, path) = folder();
        let place = place(&path, 4000, 4);
        let mut next = 0;
        let mut out = Appender::open(place.clone()).unwrap();
        while !older(&path, 3).exists() || fs::metadata(&path).unwrap().len() < 2000 {
            out.append(&line(next)).unwrap();
            next += 1;
        }
        let oldest = fs::read_to_string(older(&path, 3)).unwrap().lines().count() as u64;
        assert_eq!(place.moves().len(), 3);
        // Killed after so many renames; the fourth step is the new file.
        for (from, to) in place.moves().into_iter().take(done) {
            fs::rename(from, to).unwrap();
        }
        drop(out);
        let mut out = Appender::open(place.clone()).unwrap();
        for _ in 0..3 {
            out.append(&line(next)).unwrap();
            next += 1;
        }
        let (read, skipped) = cookies(&path);
        assert_eq!(skipped, Skipped::default());
        let first = *read.first().unwrap();
        assert_eq!(read, (first..next).collect::<Vec<_>>(), "after {done} renames");
        assert!(first <= oldest, "after {done} renames the first is {first}, the oldest file had {oldest}");
    }
}

#[test]
fn half_a_line_is_ended_before_the_next_one_and_passed_over() {
    let (_folder, path) = folder();
    let place = place(&path, 1 << 20, 2);
    Appender::open(place.clone()).unwrap().append(&(line(1) + &line(2))).unwrap();
    let length = fs::metadata(&path).unwrap().len();
    for cut in [1, 20, 600] {
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length - cut).unwrap();
        let (read, skipped) = cookies(&path);
        // What lacks its line feed alone can be read.
        assert_eq!(
            (read, skipped),
            if cut == 1 { (vec![1, 2], unreadable(0)) } else { (vec![1], unreadable(1)) }
        );
    }
    Appender::open(place).unwrap().append(&line(3)).unwrap();
    assert_eq!(cookies(&path), (vec![1, 3], unreadable(1)));
    assert_eq!(unreadable(1).to_string(), "1 line passed over that cannot be read (cut off or damaged)");
}

#[test]
fn the_selection_says_what_is_read() {
    let (_folder, path) = folder();
    let mut out = Appender::open(place(&path, 1 << 20, 2)).unwrap();
    let mut other = view(2);
    other.cause = Cause::NoListener;
    other.time += jiff::SignedDuration::from_secs(5);
    out.append(&(line(1) + &other.to_json() + "\n")).unwrap();
    for wanted in [
        Selection {
            filter: Filter { cause: vec![Cause::NoListener], ..Filter::default() },
            ..Selection::default()
        },
        Selection { span: Span { since: Some(other.time), until: None }, ..Selection::default() },
    ] {
        let mut read_back = Vec::new();
        read(&path, &wanted, |view| read_back.push(view)).unwrap();
        assert_eq!(read_back, [other.clone()]);
    }
}

#[test]
fn a_newer_journal_is_refused_with_the_place_and_the_remedy() {
    let (_folder, path) = folder();
    let newer = line(2).replacen("\"schema\":1", "\"schema\":2", 1);
    let stranger = "{\"schema\":3,\"kind\":\"dream\"}\n";
    for (text, schema) in [(newer.as_str(), 2), (stranger, 3)] {
        fs::write(&path, line(1) + text + &line(3)).unwrap();
        let error = error(&path);
        assert_eq!(
            error,
            format!(
                "{}: line 2: written by a newer rstrace (schema {schema}, and this one reads 1): use that one, or move \
                 the file away",
                path.display()
            )
        );
    }
}

#[test]
fn what_is_no_journal_is_refused() {
    let (folder, path) = folder();
    assert!(error(&path).starts_with("there is no journal"), "{}", error(&path));
    for text in ["root:x:0:0\n", "\n{\"kind\":\"recording\",\"schema\":1}\n", "\u{1f}\u{8b}gz", "{}\n"] {
        fs::write(&path, text).unwrap();
        assert!(error(&path).contains("this is no journal"), "{}", error(&path));
        assert!(read_last(&path, 10, |_| {}).is_err());
    }
    assert!(error(folder.path()).contains("is no regular file"), "{}", error(folder.path()));
    fs::write(&path, "").unwrap();
    assert_eq!(cookies(&path), (vec![], Skipped::default()));
}

#[test]
fn nothing_is_written_to_what_is_not_the_agents_own() {
    let (folder, path) = folder();
    let refused = |path: &Path| Appender::open(place(path, 8000, 2)).unwrap_err().to_string();
    let out = Appender::open(place(&path, 8000, 2)).unwrap();
    assert!(refused(&path).contains("another agent writes"), "{}", refused(&path));
    drop(out);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for path in [&link, folder.path(), Path::new("/dev/null")] {
        assert!(refused(path).contains("is no regular file"), "{}", refused(path));
    }
    assert!(refused(Path::new("/proc/none/journal")).contains("cannot write"));
    // A file that is no journal stays as it is.
    fs::write(&path, "half a line").unwrap();
    Opening::begin(place(&path, 8000, 2), 10).unwrap().finish().unwrap_err();
    assert_eq!(fs::read_to_string(&path).unwrap(), "half a line");
}

#[test]
fn the_last_lines_are_read_from_the_last_files() {
    let (_folder, path) = folder();
    let mut out = Appender::open(place(&path, 4000, 9)).unwrap();
    for cookie in 0..20 {
        out.append(&line(cookie)).unwrap();
    }
    for wanted in [0, 1, 2, 3, 7, 20, 30] {
        let mut read_back = Vec::new();
        read_last(&path, wanted, |view| read_back.push(view.connection.cookie)).unwrap();
        assert_eq!(read_back, (20_u64.saturating_sub(wanted)..20).collect::<Vec<_>>());
    }
}

#[test]
fn a_file_that_was_removed_or_shortened_is_begun_again() {
    let (_folder, path) = folder();
    let mut out = Appender::open(place(&path, 1 << 20, 2)).unwrap();
    out.append(&line(1)).unwrap();
    fs::remove_file(&path).unwrap();
    out.append(&line(2)).unwrap();
    assert_eq!(cookies(&path).0, [2]);
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    out.append(&line(3)).unwrap();
    assert_eq!(cookies(&path).0, [3]);
}

#[test]
fn fewer_files_than_before_leave_none_behind_and_one_met_twice_is_read_once() {
    let (_folder, path) = folder();
    let mut out = Appender::open(place(&path, 3000, 6)).unwrap();
    for cookie in 0..20 {
        out.append(&line(cookie)).unwrap();
    }
    drop(out);
    assert!(older(&path, 5).exists());
    let out = Appender::open(place(&path, 3000, 2)).unwrap();
    assert!(older(&path, 1).exists() && !older(&path, 2).exists() && !older(&path, 5).exists());
    let before = cookies(&path).0;
    // As if a rotation took place between two looks.
    fs::hard_link(&path, older(&path, 2)).unwrap();
    assert_eq!(cookies(&path).0.len(), before.len());
    drop(out);
}

/// A journal under way, and what it counted.
fn journal(out: Appender) -> (Journal, Written, Arc<AtomicU64>) {
    let dropped = Arc::<AtomicU64>::default();
    let count = Arc::clone(&dropped);
    let (journal, written) = Journal::start(out, move |more| {
        count.fetch_add(more, Ordering::Relaxed);
    })
    .unwrap();
    (journal, written, dropped)
}

#[tokio::test]
async fn what_the_queue_cannot_hold_is_counted_and_said() {
    let (_folder, path) = folder();
    let (mut journal, written, dropped) = journal(Appender::open(place(&path, 1 << 30, 2)).unwrap());
    const MANY: u64 = 30_000;
    let (verdict, view) = (fixture::oom_killed(), Arc::new(view(1)));
    for _ in 0..MANY {
        journal.deliver(&verdict, &view);
    }
    let mut harmless = verdict.clone();
    harmless.impact = Impact::None;
    journal.deliver(&harmless, &view);
    drop(journal);
    written.finish().await;
    let (read, skipped) = cookies(&path);
    let dropped = dropped.load(Ordering::Relaxed);
    assert!(dropped > 0, "the disk kept up: this test sees nothing");
    assert_eq!(read.len() as u64 + dropped, MANY);
    assert_eq!(skipped, Skipped { unreadable: 0, omitted: dropped });
}

#[tokio::test]
async fn a_disk_that_takes_nothing_is_counted_and_it_goes_on_by_itself() {
    let (folder, _) = folder();
    let path = folder.path().join("below/journal");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let (mut journal, written, dropped) = journal(Appender::open(place(&path, 1 << 20, 2)).unwrap());
    let verdict = fixture::oom_killed();
    let mut deliver = |cookie| journal.deliver(&verdict, &Arc::new(view(cookie)));
    let until = |done: &dyn Fn() -> bool| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !done() {
            assert!(std::time::Instant::now() < deadline);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    };
    deliver(1);
    until(&|| cookies(&path).0 == [1]);
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    deliver(2);
    deliver(3);
    until(&|| dropped.load(Ordering::Relaxed) == 2);
    fs::create_dir(path.parent().unwrap()).unwrap();
    deliver(4);
    until(&|| path.exists() && cookies(&path).0 == [4]);
    drop(journal);
    written.finish().await;
    assert_eq!(cookies(&path).1, Skipped { unreadable: 0, omitted: 2 });
}

#[test]
fn the_past_is_back_after_a_restart() {
    let (_folder, path) = folder();
    let mut out = Appender::open(place(&path, 3000, 9)).unwrap();
    for cookie in 0..20 {
        out.append(&line(cookie)).unwrap();
    }
    drop(out);
    let Opened { history, skipped, .. } =
        Opening::begin(place(&path, 3000, 9), 10).unwrap().finish().unwrap();
    assert_eq!(skipped, Skipped::default());
    let past = history.past(Span::default());
    let text: String = past.blocks.iter().map(|b| b.lines(&Selection::default()).unwrap()).collect();
    assert_eq!(text, (10..20).map(line).collect::<String>());
}

/// Lines of ours, pieces of them, and anything else.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0..100_u64).prop_map(|cookie| line(cookie).into_bytes()),
        (0..800_usize).prop_map(|length| line(1).into_bytes().into_iter().take(length).collect()),
        (0..800_usize, any::<u8>()).prop_map(|(at, byte)| {
            let mut line = line(2).into_bytes();
            if let Some(there) = line.get_mut(at) {
                *there = byte;
            }
            line
        }),
        prop::collection::vec(any::<u8>(), 0..100),
        Just(b"\n".to_vec()),
        Just(b"{\"schema\":1,\"kind\":\"omitted\",\"count\":18446744073709551615,\"why\":\"\"}\n".to_vec()),
        "\\{\"schema\":[0-9]{1,20},\"kind\":\"[a-z]{1,8}\"\\}\n".prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn whatever_the_bytes_are_nothing_panics(pieces in prop::collection::vec(piece(), 0..12), skip in 0..4_u64) {
        let bytes = pieces.concat();
        let lines = bytes.split(|byte| *byte == b'\n').count() as u64;
        let mut reader = Reader::default();
        let mut verdicts = 0;
        let done = reader.read(bytes.as_slice(), "journal", skip, |_| verdicts += 1);
        prop_assert!(verdicts + reader.skipped.unreadable <= lines);
        if let Err(error) = done {
            let text = error.to_string();
            prop_assert!(text.starts_with("journal: line ") && !text.contains('\n'), "{}", text);
        }
    }

    #[test]
    fn damage_costs_the_line_that_it_is_in(
        damage in prop::collection::vec((0..20_usize, prop::collection::vec(1..=255_u8, 1..40)), 1..4),
    ) {
        let (_folder, path) = folder();
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(line(1000).as_bytes()).unwrap();
        for at in 0..20_usize {
            for (_, bytes) in damage.iter().filter(|(place, _)| *place == at) {
                // Not the beginning of a number, so that no schema is made up.
                file.write_all(&[b"{\"schema\":\"", bytes.as_slice(), b"\n"].concat()).unwrap();
            }
            file.write_all(line(at as u64).as_bytes()).unwrap();
        }
        let (read, _) = cookies(&path);
        prop_assert_eq!(read, std::iter::once(1000).chain(0..20).collect::<Vec<_>>());
    }
}

#[test]
fn a_line_without_end_is_one_that_cannot_be_read() {
    let (_folder, path) = folder();
    fs::write(&path, line(1) + &"x".repeat(3 << 20) + "\n" + &line(2)).unwrap();
    assert_eq!(cookies(&path), (vec![1, 2], unreadable(1)));
}
