//! Connections: taken up to a number, each with little patience, and ended in good order.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tower::ServiceExt as _;

use super::{
    bodies::PATIENCE,
    gate::{Peer, one_slash},
    server::Server,
};

/// How long the last answers may take when the server ends.
const LAST: Duration = Duration::from_secs(5);

/// Waits after a connection could not be taken, most likely for lack of descriptors.
const AGAIN: Duration = Duration::from_millis(100);

/// Serves until the server is told to end, and then until all answers are given.
pub(super) async fn serve(server: &Arc<Server>, listener: TcpListener, routes: Router) {
    let places = Arc::new(Semaphore::new(server.options.limits.max_connections));
    let graceful = GracefulShutdown::new();
    let mut closing = server.closing.subscribe();
    loop {
        let place = Arc::clone(&places).acquire_owned();
        let taken = tokio::select! {
            taken = async { (place.await, listener.accept().await) } => taken,
            _ = closing.wait_for(|closing| *closing) => break,
        };
        let (Ok(place), Ok((stream, peer))) = taken else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        // Small events are to go at once.
        let _ = stream.set_nodelay(true);
        let routes = routes.clone();
        let service = service_fn(move |request| answer(routes.clone(), Peer(peer), request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .serve_connection(TokioIo::new(stream), service);
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(cause) = watched.await {
                tracing::debug!("a connection broke off: {cause}");
            }
            drop(place);
        });
    }
    drop(listener);
    server.drain().await;
    if tokio::time::timeout(LAST, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::debug!("some connections are cut");
    }
}

async fn answer(
    routes: Router,
    peer: Peer,
    request: hyper::Request<Incoming>,
) -> Result<axum::response::Response, Infallible> {
    let mut request: Request = request.map(Body::new);
    request.extensions_mut().insert(peer);
    one_slash(request.uri_mut());
    routes.oneshot(request).await
}
