//! `afterimage serve`: one queue in front of one engine per device, behind HTTP.
//!
//! Three interfaces end in the one request type, a [`Recipe`](crate::pipeline::Recipe): the server's own (`/v1/jobs`), `OpenAI`'s
//! (`/v1/images`) and the web interface's (`/sdapi/v1`). What they promise is in `docs/server.md`.
//!
//! ```text
//! gate ─▶ own, openai, sdapi ─▶ asked: names to places, limits, a plan ─▶ queue ─▶ worker ─▶ engine
//!                                                                           └─▶ events, previews ◀─┘
//! ```

mod asked;
mod bodies;
mod document;
mod events;
mod fault;
mod finish;
mod gate;
mod health;
mod infotext;
mod job;
mod keys;
mod limits;
mod listen;
mod metrics;
mod models;
mod once;
mod openai;
mod options;
mod own;
mod page;
mod pictures;
mod pool;
mod queue;
mod ranges;
mod read;
mod restore;
mod routes;
mod sdapi;
mod server;
mod shelf;
mod signals;
mod store;
mod timing;
mod together;
mod watch;
mod words;
mod work;
mod worker;

use std::{net::SocketAddr, sync::Arc, thread, time::Duration};

use tokio::{net::TcpListener, runtime};

pub(crate) use options::{Limits, Options, Token};

use self::{pool::Pool, server::Server, shelf::Shelf, signals::Signals, store::Store};
use crate::{
    device,
    engine::check_format,
    error::{Error, FileError, RequestError},
    kernels::heap,
};

/// Between looks for results that are too old.
const SWEEP: Duration = Duration::from_secs(5);

/// Serves until the process is told to end; `ready` is told where.
///
/// # Errors
///
/// If the address is not loopback and there is no token, a model is none, a device does not open or has not what it is to compute in, or the address or the folder of results cannot be had.
pub(crate) fn run(options: Options, ready: impl FnOnce(SocketAddr)) -> Result<(), Error> {
    let address = options.address;
    if !address.ip().is_loopback() && options.tokens.is_empty() {
        let host = address.ip().to_string();
        return Err(RequestError::NoToken { host }.into());
    }
    models::check(&options.models)?;
    heap::share();
    let devices = options.devices.iter().map(|choice| device::open(*choice));
    let devices = devices.collect::<Result<Vec<_>, _>>()?;
    for device in &devices {
        check_format(
            device,
            options.dtype,
            (options.weights, options.activations),
        )?;
    }
    Shelf::tell(&options);
    let listening = |source| FileError::Listen { address, source };
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.map_err(listening)?;
    // Before there is anything that a signal would leave behind, and before anybody is told of an address.
    let signals = {
        let _within = runtime.enter();
        Signals::listen()
    };
    let store = Store::open(options.results.as_deref())?;
    let server = Arc::new(Server::new(options, store, devices));
    restore::restore(&server);
    let listener = runtime
        .block_on(TcpListener::bind(address))
        .map_err(listening)?;
    let workers = start(&server).map_err(listening)?;
    ready(listener.local_addr().unwrap_or(address));
    runtime.block_on(async {
        tokio::spawn(stop(Arc::clone(&server), signals));
        tokio::spawn(sweep(Arc::clone(&server)));
        listen::serve(&server, listener, routes::all(&server)).await;
    });
    for worker in workers {
        // One that panicked has said so.
        let _ = worker.join();
    }
    Ok(())
}

/// A worker for every device.
fn start(server: &Arc<Server>) -> std::io::Result<Vec<thread::JoinHandle<()>>> {
    let Server {
        options, devices, ..
    } = server.as_ref();
    let numbered = options.devices.iter().zip(devices).enumerate();
    let workers = numbered.map(|(number, (choice, opened))| {
        let kept = (options.dtype, options.weights, options.activations);
        let pool = Pool::new(*choice, opened, options.memory, kept);
        let server = Arc::clone(server);
        let named = thread::Builder::new().name(format!("worker {number}"));
        named.spawn(move || worker::run(&server, number, pool))
    });
    workers.collect()
}

/// Ends the server at the first signal, and the process at the second.
async fn stop(server: Arc<Server>, signals: Signals) {
    signals.first().await;
    server.closing.send_replace(true);
    tracing::info!("ending: what runs is finished, what waits is given back; again ends at once");
    signals::again().await;
    std::process::exit(130);
}

async fn sweep(server: Arc<Server>) {
    let mut clock = tokio::time::interval(SWEEP);
    loop {
        clock.tick().await;
        let server = Arc::clone(&server);
        // Files are removed.
        drop(tokio::task::spawn_blocking(move || server.queue.sweep()).await);
    }
}
