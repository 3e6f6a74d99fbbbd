//! A way to the server on which commands that write are answered with errors, as the server itself answers at times.
//!
//! The server's own fail points would do it too. But they are for all that use the server, and only a server that was started
//! for tests has them.

use std::{
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use mongodb::bson::{Document, RawDocument, RawDocumentBuf, doc};
use outbox_conformance::Fault;
use outbox_mongo::mongodb;
use outbox_traits::ErrorKind;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// How the server says it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Instead of the whole command.
    Command,
    /// The same of what is done in a transaction. Elsewhere the server tries again by itself.
    InTransactions,
    /// Of a document that was to be inserted, and otherwise of the command.
    Write,
    /// As what could not be waited for, where it is waited for: not within a transaction, but at its end.
    WriteConcern,
    /// Of the end of a transaction.
    Commit,
    /// Of what takes the lock.
    Lock,
}

/// One that the server has, by the name that it has there.
struct Answer {
    name: &'static str,
    code: i32,
    form: Form,
    kind: ErrorKind,
    words: &'static str,
}

const fn answer(name: &'static str, code: i32, form: Form, kind: ErrorKind) -> Answer {
    Answer { name, code, form, kind, words: "the server has a fault" }
}

/// A code that says nothing.
const UNKNOWN: i32 = 8000;
const TRANSIENT: &str = "TransientTransactionError";
const UNKNOWN_RESULT: &str = "UnknownTransactionCommitResult";

const ANSWERS: &[Answer] = &[
    answer("Unauthorized", 13, Form::Command, ErrorKind::Backend),
    answer("MaxTimeMSExpired", 50, Form::Command, ErrorKind::Unavailable),
    answer("NamespaceNotFound", 26, Form::Command, ErrorKind::Schema),
    answer("WriteConflict", 112, Form::InTransactions, ErrorKind::Conflict),
    answer("LockTimeout", 24, Form::InTransactions, ErrorKind::Conflict),
    answer("SnapshotUnavailable", 246, Form::InTransactions, ErrorKind::Conflict),
    answer("NoSuchTransaction", 251, Form::InTransactions, ErrorKind::Conflict),
    answer(TRANSIENT, UNKNOWN, Form::InTransactions, ErrorKind::Conflict),
    Answer {
        words: r#"E11000 duplicate key error collection: x.outbox index: eventId_1 dup key: { eventId: "x" }"#,
        ..answer("DuplicateKey", 11000, Form::InTransactions, ErrorKind::Conflict)
    },
    answer("BadValue", 2, Form::Command, ErrorKind::Backend),
    Answer {
        words: "planner returned error: hint provided does not correspond to an existing index",
        ..answer("BadValue of a hint", 2, Form::Command, ErrorKind::Schema)
    },
    answer("IndexNotFound", 27, Form::Command, ErrorKind::Schema),
    answer("CommandNotSupportedOnView", 166, Form::Command, ErrorKind::Schema),
    answer("DocumentValidationFailure", 121, Form::Write, ErrorKind::Backend),
    answer("InterruptedDueToReplStateChange", 11602, Form::Write, ErrorKind::Unavailable),
    answer("HostUnreachable", 6, Form::Command, ErrorKind::Unavailable),
    answer("PrimarySteppedDown", 189, Form::Command, ErrorKind::Unavailable),
    answer("NotWritablePrimary", 10107, Form::Command, ErrorKind::Unavailable),
    answer("WriteConcernFailed", 64, Form::WriteConcern, ErrorKind::Unavailable),
    answer(UNKNOWN_RESULT, UNKNOWN, Form::Commit, ErrorKind::Unavailable),
    answer("InternalError", 1, Form::Commit, ErrorKind::Backend),
    answer("UnknownError", 8, Form::Lock, ErrorKind::Backend),
];

impl Answer {
    fn fault(&self) -> Fault {
        let fault = Fault::new(self.name, self.kind);
        match self.form {
            Form::Command | Form::Write => fault,
            Form::InTransactions => fault.at_some_places(),
            Form::Commit if self.name == UNKNOWN_RESULT => {
                fault.outside_sessions().at_some_places().asked_again()
            }
            Form::WriteConcern | Form::Commit | Form::Lock => fault.outside_sessions().at_some_places(),
        }
    }

    /// What the server says to a command, if it has this fault there.
    fn to(&self, command: &RawDocument) -> Option<Document> {
        let (name, _) = command.iter().next()?.ok()?;
        let writes = matches!(name.as_str(), "insert" | "update" | "delete" | "findAndModify");
        let in_transaction = command.get("autocommit").ok()?.is_some();
        let is_met = match self.form {
            Form::Command | Form::Write => writes,
            Form::InTransactions => writes && in_transaction,
            Form::WriteConcern => writes && !in_transaction || name == "commitTransaction",
            Form::Commit => name == "commitTransaction",
            Form::Lock => name == "findAndModify",
        };
        if !is_met {
            return None;
        }
        let mut error = doc! { "code": self.code, "codeName": self.name, "errmsg": self.words };
        Some(match self.form {
            Form::Write if name == "insert" => {
                error.insert("index", 0);
                doc! { "ok": 1, "n": 0, "writeErrors": [error] }
            }
            Form::WriteConcern => doc! { "ok": 1, "n": 0, "nModified": 0, "writeConcernError": error },
            _ => {
                error.insert("ok", 0);
                // The others are told by their codes.
                if self.code == UNKNOWN {
                    error.insert("errorLabels", [self.name]);
                }
                error
            }
        })
    }
}

/// The answer that the next commands get, and how many of them do.
#[derive(Default)]
struct Next(Mutex<Option<(&'static Answer, u32)>>);

impl Next {
    fn to(&self, command: &RawDocument) -> Option<Document> {
        let mut next = self.0.lock().unwrap();
        let (answer, left) = next.as_mut()?;
        let reply = answer.to(command)?;
        *left = left.checked_sub(1)?;
        Some(reply)
    }
}

/// The way to a server. It ends when it is dropped.
pub(crate) struct Way {
    pub(crate) port: u16,
    next: Arc<Next>,
    accepting: JoinHandle<()>,
}

impl Way {
    pub(crate) async fn to(server: String) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (port, next) = (listener.local_addr().unwrap().port(), Arc::<Next>::default());
        let of_all = Arc::clone(&next);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(&server).await {
                    tokio::spawn(pass_on(client, server, Arc::clone(&of_all)));
                }
            }
        });
        Self { port, next, accepting }
    }

    pub(crate) fn faults() -> Vec<Fault> {
        ANSWERS.iter().map(Answer::fault).collect()
    }

    pub(crate) fn fail(&self, fault: &Fault, times: u32) {
        let answer = ANSWERS.iter().find(|answer| answer.name == fault.name()).unwrap();
        *self.next.0.lock().unwrap() = Some((answer, times));
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A message has its length first, then its number, that of the one which it answers, and its kind.
const HEADER: usize = 16;
const OP_MSG: i32 = 2013;
/// Then come its flags and a byte that says that a document follows.
const BEFORE_DOCUMENT: usize = 5;

async fn pass_on(client: TcpStream, server: TcpStream, next: Arc<Next>) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    // One command at a time is under way on a connection: the server says nothing while it is answered here.
    let to_client = Arc::new(tokio::sync::Mutex::new(to_client));
    let answers = Arc::clone(&to_client);
    let back = tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            if answers.lock().await.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
        answers.lock().await.shutdown().await
    });
    while let Ok(length) = from_client.read_i32_le().await {
        let mut message = length.to_le_bytes().to_vec();
        message.resize(usize::try_from(length).unwrap_or(HEADER), 0);
        from_client.read_exact(&mut message[4..]).await?;
        match reply(&message, &next) {
            Some(reply) => to_client.lock().await.write_all(&reply).await?,
            None => to_server.write_all(&message).await?,
        }
    }
    to_server.shutdown().await?;
    back.await?
}

/// The answer to a message that is not passed on.
fn reply(message: &[u8], next: &Next) -> Option<Vec<u8>> {
    let body = message.get(HEADER + BEFORE_DOCUMENT..)?;
    let length = usize::try_from(i32::from_le_bytes(body.get(..4)?.try_into().ok()?)).ok()?;
    let command = RawDocument::from_bytes(body.get(..length)?).ok()?;
    let reply = RawDocumentBuf::try_from(&next.to(command)?).ok()?.into_bytes();
    let length = i32::try_from(HEADER + BEFORE_DOCUMENT + reply.len()).ok()?;
    let number = i32::from_le_bytes(message[4..8].try_into().ok()?);
    let header = [length, number, number, OP_MSG].into_iter().flat_map(i32::to_le_bytes);
    Some(header.chain([0; BEFORE_DOCUMENT]).chain(reply).collect())
}
