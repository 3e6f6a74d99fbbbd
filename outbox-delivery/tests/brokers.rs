//! The brokers that other tests kill and start again.

mod broker;

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
};

use outbox_conformance::{Skip, require};

use crate::broker::{Broker, PASSWORD};

async fn comes_back(name: &str, broker: Result<Broker, Skip>) {
    let Some(mut broker) = require(name, broker) else { return };
    let url = broker.url().to_owned();
    let mut before = TcpStream::connect((Ipv4Addr::LOCALHOST, broker.port())).unwrap();
    broker.kill().await;
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, broker.port())).is_err());
    // What it may have said before it was killed comes first.
    assert!(before.read_to_end(&mut Vec::new()).is_err() || before.read(&mut [0]).is_ok_and(|n| n == 0));
    broker.start().await;
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, broker.port())).is_ok());
    assert_eq!(broker.url(), url);
}

#[tokio::test]
async fn nats_comes_back_on_its_port() {
    comes_back("brokers::nats", Broker::nats().await).await;
}

#[tokio::test]
async fn rabbitmq_comes_back_on_its_port() {
    comes_back("brokers::rabbitmq", Broker::rabbitmq().await).await;
}

#[tokio::test]
async fn redis_comes_back_on_its_port_with_its_data() {
    let Some(mut broker) = require("brokers::redis", Broker::redis().await) else { return };
    let ask = |broker: &Broker, command: &str, answer: &str| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, broker.port())).unwrap();
        write!(stream, "AUTH {PASSWORD}\r\n{command}\r\n").unwrap();
        let mut found = vec![0; "+OK\r\n".len() + answer.len()];
        stream.read_exact(&mut found).unwrap();
        assert_eq!(String::from_utf8(found).unwrap(), format!("+OK\r\n{answer}"));
    };
    ask(&broker, "SET key kept", "+OK\r\n");
    broker.kill().await;
    broker.start().await;
    ask(&broker, "GET key", "$4\r\nkept\r\n");
}
