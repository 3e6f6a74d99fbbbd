//! Events as lines of JSON.
#![cfg(feature = "json-lines")]

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use outbox_delivery::transport::JsonLines;
use outbox_traits::{Event, PublishErrorKind, Transport};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWrite};

fn event(event_type: &str) -> Event {
    Event::new(event_type, json!({ "text": "two\nlines" })).unwrap().with_resource("order", "o-1")
}

/// Takes so many bytes and then fails once; remembers what it took and how often it was flushed.
#[derive(Clone, Default)]
struct Pipe {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    taken: Vec<u8>,
    flushes: usize,
    fails_after: Option<usize>,
    fails_to_flush: bool,
}

impl Pipe {
    fn text(&self) -> String {
        String::from_utf8(self.state.lock().unwrap().taken.clone()).unwrap()
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.state.lock().unwrap();
        let room = state.fails_after.map_or(usize::MAX, |limit| limit.saturating_sub(state.taken.len()));
        if room == 0 {
            state.fails_after = None;
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = bytes.len().min(room);
        state.taken.extend(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.lock().unwrap();
        state.flushes += 1;
        if std::mem::take(&mut state.fails_to_flush) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn each_event_is_one_line_and_a_batch_is_flushed_once() {
    let pipe = Pipe::default();
    let events = [event("order.placed"), event("order.shipped")];
    let published = JsonLines::new(pipe.clone()).publish_all(&events).await;
    assert!(published.iter().zip(&events).all(|(one, event)| one.id == event.id() && one.result.is_ok()));
    let lines: Vec<Event> = pipe.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, events);
    assert_eq!(pipe.state.lock().unwrap().flushes, 1);
}

#[tokio::test]
async fn after_a_torn_write_the_next_begins_on_a_fresh_line() {
    let pipe = Pipe::default();
    pipe.state.lock().unwrap().fails_after = Some(20);
    let transport = JsonLines::new(pipe.clone());
    let events = [event("order.placed"), event("order.shipped")];
    for published in transport.publish_all(&events).await {
        let error = published.result.unwrap_err();
        assert_eq!(error.kind(), PublishErrorKind::Unavailable);
        assert_eq!(error.to_string(), "could not write to the writer: broken pipe");
    }
    transport.publish(&events[0]).await.unwrap();
    let text = pipe.text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((lines.len(), lines[0].len()), (2, 20));
    assert_eq!(serde_json::from_str::<Event>(lines[1]).unwrap(), events[0]);
}

#[tokio::test]
async fn what_was_not_flushed_is_not_accepted() {
    let pipe = Pipe::default();
    pipe.state.lock().unwrap().fails_to_flush = true;
    let transport = JsonLines::new(pipe.clone());
    let error = transport.publish(&event("order.placed")).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable);
    transport.publish(&event("order.placed")).await.unwrap();
}

#[tokio::test]
async fn a_file_is_appended_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.jsonl");
    let events = [event("order.placed"), event("order.shipped"), event("order.paid")];
    for event in &events {
        JsonLines::append(&path).await.unwrap().publish(event).await.unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Event> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, events);
}

#[tokio::test]
async fn what_is_published_at_the_same_time_is_written_as_it_came() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.jsonl");
    let transport = JsonLines::append(&path).await.unwrap();
    let events: Vec<Event> = (0..200).map(|n| event(&format!("order.n{n}"))).collect();
    let published = events.iter().map(|event| transport.publish(event));
    assert!(futures_util::future::join_all(published).await.iter().all(Result::is_ok));
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Event> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let types = |events: &[Event]| -> Vec<String> {
        events.iter().map(|event| event.event_type().to_owned()).collect()
    };
    assert_eq!(types(&lines), types(&events));
}

/// Somebody may have stopped the program that reads.
#[tokio::test(start_paused = true)]
async fn a_reader_that_has_stopped_is_no_event_s_fault_and_is_written_to_when_it_goes_on() {
    let (writer, mut reader) = tokio::io::duplex(64);
    let transport = JsonLines::new(writer);
    let error = transport.publish(&event("order.placed")).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable);
    assert_eq!(error.to_string(), "could not write to the writer: not within 10s");
    let event = event("order.shipped");
    let read = async {
        let mut text = String::new();
        reader.read_to_string(&mut text).await.unwrap();
        text
    };
    let publish = async {
        transport.publish(&event).await.unwrap();
        drop(transport);
    };
    let (text, ()) = tokio::join!(read, publish);
    assert_eq!(serde_json::from_str::<Event>(text.lines().last().unwrap()).unwrap(), event);
}

#[cfg(unix)]
#[tokio::test]
async fn what_comes_after_the_file_was_moved_away_or_removed_is_in_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let (path, moved) = (directory.path().join("events.jsonl"), directory.path().join("events.1"));
    let transport = JsonLines::append(&path).await.unwrap();
    let read = |path| {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Event>>()
    };
    let events = [event("order.placed"), event("order.shipped"), event("order.paid")];
    transport.publish(&events[0]).await.unwrap();
    std::fs::rename(&path, &moved).unwrap();
    transport.publish(&events[1]).await.unwrap();
    assert_eq!((read(&moved), read(&path)), (vec![events[0].clone()], vec![events[1].clone()]));
    std::fs::remove_file(&path).unwrap();
    transport.publish(&events[2]).await.unwrap();
    assert_eq!(read(&path), [events[2].clone()]);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let error = transport.publish(&events[0]).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable);
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let error = JsonLines::append(directory.path().join("no/such/file")).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[cfg(unix)]
#[tokio::test]
async fn the_error_of_what_cannot_be_opened_names_it_and_has_its_cause() {
    let directory = tempfile::tempdir().unwrap();
    let error = JsonLines::append(directory.path()).await.unwrap_err();
    let path = directory.path().display();
    assert_eq!(error.to_string(), format!("{path}: Is a directory (os error 21)"));
    let cause = std::error::Error::source(&error).unwrap().downcast_ref::<io::Error>().unwrap();
    assert_eq!((error.kind(), cause.raw_os_error()), (io::ErrorKind::IsADirectory, Some(21)));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_pipe_is_refused_and_neither_written_to_nor_waited_for() {
    use std::os::fd::AsRawFd;

    // A named one without `mkfifo`: another process, for a moment, would share the locks of files beside this test.
    let (reader, _writer) = io::pipe().unwrap();
    let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
    let error = JsonLines::append(&path).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert_eq!(error.to_string(), format!("{path}: it is neither a regular file nor a device"));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_unavailable() {
    let transport = JsonLines::append("/dev/full").await.unwrap();
    let error = transport.publish(&event("order.placed")).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::Unavailable);
}
