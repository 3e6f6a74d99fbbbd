//! A connection by URL, with the credentials that stand in it.

use async_nats::{Client, ConnectError, ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;

/// The client itself pays no heed to the credentials of a URL, and writes its addresses into its log.
pub(super) async fn connect(urls: &str) -> Result<Client, ConnectError> {
    let (mut options, mut servers) = (ConnectOptions::new(), Vec::new());
    for url in urls.split(',') {
        let server: ServerAddr = url.trim().parse()?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        match (server.username().map(decoded), server.password().map(decoded)) {
            (Some(user), Some(password)) => options = options.user_and_password(user, password),
            (Some(token), None) => options = options.token(token),
            (None, _) => {}
        }
        let mut url = server.into_inner();
        // They fail for URLs that have no host, which are none of a server.
        let _ = url.set_password(None);
        let _ = url.set_username("");
        servers.push(ServerAddr::from_url(url)?);
    }
    options.connect(servers).await
}
