//! The suite of transports against those without a broker.
#![cfg(all(feature = "in-process", feature = "json-lines"))]

mod in_process {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    };

    use outbox_conformance::{
        Skip,
        transport::{PartHarness, Received, RefusingHarness, TransportHarness, part::PART},
    };
    use outbox_delivery::transport::InProcess;
    use outbox_traits::{Event, PublishError, async_trait};
    use serde_json::json;

    const TOO_LARGE: &str = "suite.too_large";

    struct Subscribed {
        transport: InProcess,
        received: Arc<Mutex<Vec<Received>>>,
        is_away: Arc<AtomicBool>,
    }

    #[async_trait]
    impl TransportHarness for Subscribed {
        type Transport = InProcess;

        async fn open() -> Result<Self, Skip> {
            let received = Arc::new(Mutex::new(Vec::new()));
            let is_away = Arc::new(AtomicBool::new(false));
            let (seen, away) = (Arc::clone(&received), Arc::clone(&is_away));
            let transport = InProcess::new().subscribe("*", move |event| {
                let (seen, away) = (Arc::clone(&seen), Arc::clone(&away));
                async move {
                    tokio::task::yield_now().await;
                    if event.event_type() == PART && away.load(Ordering::SeqCst) {
                        return Err(PublishError::failed("the subscriber cannot take it now"));
                    }
                    if event.event_type() == TOO_LARGE {
                        return Err(PublishError::rejected("the subscriber does not take it"));
                    }
                    seen.lock().unwrap().push(Received::from(&*event));
                    Ok(())
                }
            });
            Ok(Self { transport, received, is_away })
        }

        fn transport(&self) -> &InProcess {
            &self.transport
        }

        async fn received(&self) -> Vec<Received> {
            self.received.lock().unwrap().clone()
        }
    }

    #[async_trait]
    impl RefusingHarness for Subscribed {
        fn too_large(&self) -> Event {
            Event::new(TOO_LARGE, json!({})).unwrap()
        }
    }

    #[async_trait]
    impl PartHarness for Subscribed {
        async fn take_away(&self) {
            self.is_away.store(true, Ordering::SeqCst);
        }

        async fn bring_back(&self) {
            self.is_away.store(false, Ordering::SeqCst);
        }
    }

    outbox_conformance::transport_suite!(Subscribed; publish, refuse, part);
}

mod json_lines {
    use outbox_conformance::{
        Skip,
        transport::{Received, TransportHarness},
    };
    use outbox_delivery::transport::JsonLines;
    use outbox_traits::{Event, async_trait};

    struct Appended {
        transport: JsonLines,
        directory: tempfile::TempDir,
    }

    #[async_trait]
    impl TransportHarness for Appended {
        type Transport = JsonLines;

        async fn open() -> Result<Self, Skip> {
            let directory = tempfile::tempdir().unwrap();
            let transport = JsonLines::append(directory.path().join("events.jsonl")).await.unwrap();
            Ok(Self { transport, directory })
        }

        fn transport(&self) -> &JsonLines {
            &self.transport
        }

        async fn received(&self) -> Vec<Received> {
            let lines = std::fs::read_to_string(self.directory.path().join("events.jsonl")).unwrap();
            let events = lines.lines().map(|line| serde_json::from_str::<Event>(line).unwrap());
            events.map(|event| Received::from(&event)).collect()
        }
    }

    outbox_conformance::transport_suite!(Appended; publish);
}
