//! A connection by URL, with the credentials that stand in it.

use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;

/// Without a form for people: they are secret.
#[derive(PartialEq, Eq)]
enum Credentials {
    User(String, String),
    Token(String),
}

/// The client itself pays no heed to the credentials of a URL, and writes its addresses into its log.
pub(super) async fn connect(urls: &str) -> Result<Client, ConnectError> {
    let (credentials, servers) = read(urls)?;
    let options = match credentials {
        Some(Credentials::User(user, password)) => ConnectOptions::with_user_and_password(user, password),
        Some(Credentials::Token(token)) => ConnectOptions::with_token(token),
        None => ConnectOptions::new(),
    };
    options.connect(servers).await
}

/// The credentials, which hold for all servers, and the addresses without them.
fn read(urls: &str) -> Result<(Option<Credentials>, Vec<ServerAddr>), ConnectError> {
    let mut credentials: Option<Credentials> = None;
    let mut servers = Vec::new();
    for url in urls.split(',') {
        let server: ServerAddr = url.trim().parse()?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let own = match (server.username().map(decoded), server.password().map(decoded)) {
            (Some(user), Some(password)) => Some(Credentials::User(user, password)),
            (Some(token), None) => Some(Credentials::Token(token)),
            (None, _) => None,
        };
        // A client has one place for them. It would take those of one server to another, and they are not for that one.
        if own.is_some() && credentials.is_some() && own != credentials {
            let message = "the URLs have different credentials, and those of one hold for all servers: write the \
                           same into each, or into one alone";
            return Err(ConnectError::with_source(ConnectErrorKind::ServerParse, message));
        }
        credentials = credentials.or(own);
        let mut url = server.into_inner();
        // They fail for URLs that have no host, which are none of a server.
        let _ = url.set_password(None);
        let _ = url.set_username("");
        servers.push(ServerAddr::from_url(url)?);
    }
    Ok((credentials, servers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credentials_of_one_url_hold_for_all_servers_and_stand_in_no_address() {
        let user = || Credentials::User("shop".to_owned(), "p@1".to_owned());
        let token = || Credentials::Token("secret".to_owned());
        for (urls, expected) in [
            ("nats://shop:p%401@a:1,nats://shop:p%401@b:2", Some(user())),
            ("nats://shop:p%401@a:1, b:2", Some(user())),
            ("a:1,nats://shop:p%401@b:2", Some(user())),
            ("nats://secret@a:1,nats://secret@b:2", Some(token())),
            ("a:1,b:2", None),
        ] {
            let (credentials, servers) = read(urls).unwrap();
            assert!(credentials == expected, "{urls}");
            let places: Vec<_> = servers.iter().map(|server| (server.host(), server.port())).collect();
            assert_eq!(places, [("a", 1), ("b", 2)], "{urls}");
            assert!(servers.iter().all(|server| !server.as_url_str().contains('@')), "{urls}");
        }
    }

    #[test]
    fn credentials_that_differ_are_refused_and_named_nowhere() {
        for urls in [
            "nats://shop:secret-1@a,nats://shop:secret-2@b",
            "nats://secret-1:p@a,nats://secret-2:p@b",
            "nats://secret-1@a,nats://secret-2@b",
            "nats://shop:secret-1@a,b,nats://secret-1@c",
        ] {
            let Err(error) = read(urls) else { panic!("{urls} is taken") };
            let said = format!("{error} {error:?}");
            assert!(said.contains("different credentials") && !said.contains("secret"), "{said}");
        }
    }
}
