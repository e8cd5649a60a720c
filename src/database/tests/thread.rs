//! The database's thread: what it waits for, what it says, and in which order it answers.

use std::sync::mpsc;
use std::time::Duration;

use super::{EPOCH, all, conference, open};
use crate::database::*;

#[test]
fn the_thread_waits_for_a_holder_and_says_so() {
    let (folder, database) = open();
    let settings =
        DatabaseSettings { path: database.path().to_owned(), witness: None, patience: Duration::from_secs(60) };
    let (tell, told) = mpsc::channel();
    let thread = DatabaseThread::spawn(settings, move |outcome| tell.send(outcome).unwrap()).unwrap();
    thread.submit(Job::Commit { id: JobId(1), changes: vec![Change::Create(conference(1))], epoch: EPOCH }).unwrap();
    assert!(matches!(told.recv().unwrap(), Outcome::Waiting(DatabaseError::Held { .. })));
    drop(database);
    let Outcome::Opened(opened) = told.recv().unwrap() else { panic!("it opens") };
    assert!(matches!(told.recv().unwrap(), Outcome::Committed { id: JobId(1), result: Ok(()) }));
    assert_eq!(all(&opened.database), [conference(1)]);
    drop((thread, folder));
}

#[test]
fn the_thread_gives_up_only_when_it_is_dropped_and_then_refuses_what_it_was_asked() {
    let (_folder, database) = open();
    let settings = DatabaseSettings { path: database.path().to_owned(), witness: None, patience: Duration::ZERO };
    let (tell, told) = mpsc::channel();
    let thread = DatabaseThread::spawn(settings, move |outcome| tell.send(outcome).unwrap()).unwrap();
    thread.submit(Job::Reserve { count: 1 }).unwrap();
    thread.submit(Job::TakeControl { seen: Epoch::NONE, count: 1 }).unwrap();
    for _ in 0..2 {
        assert!(matches!(told.recv().unwrap(), Outcome::Waiting(DatabaseError::Held { .. })));
    }
    drop(thread);
    let mut rest = told.iter().skip_while(|outcome| matches!(outcome, Outcome::Waiting(_)));
    assert!(matches!(rest.next().unwrap(), Outcome::Failed(DatabaseError::Held { .. })));
    assert!(matches!(rest.next().unwrap(), Outcome::Reserved(Err(CommitError::Storage(_)))));
    assert!(matches!(rest.next().unwrap(), Outcome::Given(Err(CommitError::Storage(_)))), "who asked waits for it");
}

/// A file that is repaired, brought back or given to this user is opened, however long that
/// takes.
#[test]
fn the_thread_opens_a_file_that_is_mended_and_says_once_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("baton.redb");
    std::fs::write(&path, b"not a database").unwrap();
    let witness = Some("a snapshot".to_owned());
    let settings = DatabaseSettings { path: path.clone(), witness, patience: Duration::ZERO };
    let (tell, told) = mpsc::channel();
    let thread = DatabaseThread::spawn(settings, move |outcome| tell.send(outcome).unwrap()).unwrap();
    let waiting = |told: &mpsc::Receiver<Outcome>| match told.recv().unwrap() {
        Outcome::Waiting(error) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(waiting(&told), DatabaseError::Foreign { .. }));
    std::fs::remove_file(&path).unwrap();
    let lost = waiting(&told);
    assert!(matches!(lost, DatabaseError::Lost { .. }), "{lost:?}");
    assert!(lost.to_string().contains("a snapshot says that there was one"), "{lost}");
    assert!(!path.exists(), "no new one stands in its place");
    let elsewhere = folder.path().join("elsewhere.redb");
    Database::open(&elsewhere).unwrap().commit(&[Change::Create(conference(4))], EPOCH).unwrap();
    std::fs::rename(&elsewhere, &path).unwrap();
    let Outcome::Opened(opened) = told.recv().unwrap() else { panic!("it opens") };
    assert_eq!(all(&opened.database), [conference(4)]);
    drop(thread);
}

#[test]
fn a_file_is_created_only_where_nothing_says_that_there_was_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("baton.redb");
    let refused = Database::open_as(&path, Some("the table")).unwrap_err();
    assert!(matches!(refused, DatabaseError::Lost { .. }) && !path.exists(), "{refused:?}");
    drop(Database::open_as(&path, None).unwrap());
    drop(Database::open_as(&path, Some("the table")).unwrap());
}

#[test]
fn the_thread_says_when_the_disk_takes_nothing_and_when_it_does_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("baton.redb");
    let settings = DatabaseSettings { path: path.clone(), witness: None, patience: Duration::ZERO };
    let (tell, told) = mpsc::channel();
    let thread = DatabaseThread::spawn(settings, move |outcome| tell.send(outcome).unwrap()).unwrap();
    let Outcome::Opened(opened) = told.recv().unwrap() else { panic!("it opens") };
    // As after a failed flush whose file cannot be opened again: another process has it.
    drop(opened.database.redb.write().take());
    let other = Database::open(&path).unwrap();
    let job = |id| Job::Commit { id: JobId(id), changes: vec![Change::Create(conference(id))], epoch: EPOCH };
    thread.submit(job(1)).unwrap();
    assert!(matches!(told.recv().unwrap(), Outcome::Unwritable(_)));
    assert!(matches!(told.recv().unwrap(), Outcome::Committed { result: Err(CommitError::Storage(_)), .. }));
    thread.submit(job(2)).unwrap();
    assert!(matches!(told.recv().unwrap(), Outcome::Committed { result: Err(_), .. }), "it is said once");
    drop(other);
    assert!(matches!(told.recv().unwrap(), Outcome::Writable), "without a job");
    thread.submit(job(3)).unwrap();
    assert!(matches!(told.recv().unwrap(), Outcome::Committed { id: JobId(3), result: Ok(()) }));
    assert_eq!(all(&opened.database), [conference(3)]);
}

#[test]
fn the_thread_answers_every_job_in_order_and_before_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("baton.redb");
    let settings = DatabaseSettings { path, witness: None, patience: Duration::ZERO };
    let (tell, told) = mpsc::channel();
    let thread = DatabaseThread::spawn(settings.clone(), move |outcome| tell.send(outcome).unwrap()).unwrap();
    for id in 1..=2000 {
        let changes = vec![Change::Create(conference(id))];
        thread.submit(Job::Commit { id: JobId(id), changes, epoch: EPOCH }).unwrap();
    }
    thread.submit(Job::Reserve { count: 5 }).unwrap();
    drop(thread);
    let mut outcomes = told.iter();
    assert!(matches!(outcomes.next(), Some(Outcome::Opened(_))));
    for expected in 1..=2000 {
        let Some(Outcome::Committed { id, result }) = outcomes.next() else { panic!("commit {expected} is answered") };
        assert_eq!((id, result), (JobId(expected), Ok(())));
    }
    assert!(matches!(outcomes.next(), Some(Outcome::Reserved(Ok(Reservation { term: 1, first: 1, end: 6, .. })))));
    assert!(outcomes.next().is_none());
    assert_eq!(all(&Database::open(&settings.path).unwrap()).len(), 2000);
}
