//! Bodies of requests, taken in whole before a handler begins: within the limit each, and within one for all together.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header},
};
use futures_util::StreamExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::fault::Fault;

/// How long a client may take to send its request, and waits until there is room for it.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Bodies of the largest size that are held at once, until they are read.
const AT_ONCE: usize = 4;

/// Bytes of a body that takes no room: what has no pictures in it is never kept waiting by what has.
const SMALL: usize = 1 << 18;

/// Bytes that room is counted in.
const UNIT: usize = 1 << 16;

/// Bytes of a refused body that are taken in, and how long they are waited for.
const MOST_DISCARDED: usize = 8 << 20;
const MOMENT: Duration = Duration::from_secs(2);

/// What bodies of at most this many bytes have room in, and how long they wait for it.
#[derive(Debug)]
pub(super) struct Room {
    left: Arc<Semaphore>,
    most: usize,
    patience: Duration,
}

/// A body, with the room that it takes.
struct Held {
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Room {
    pub(super) fn new(most: usize) -> Self {
        let all = AT_ONCE.saturating_mul(units(most) as usize);
        Self {
            left: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))),
            most,
            patience: PATIENCE,
        }
    }

    /// The whole of a body.
    pub(super) async fn read(&self, body: Body, headers: &HeaderMap) -> Result<Bytes, Fault> {
        let length = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok());
        let length = length.and_then(|length| length.parse::<usize>().ok());
        if length.is_some_and(|length| length > self.most) {
            discard(body).await;
            return Err(self.too_large());
        }
        // What does not say how long it is may be as long as any.
        let wanted = units(length.unwrap_or(self.most));
        let room = timeout(
            self.patience,
            Arc::clone(&self.left).acquire_many_owned(wanted),
        )
        .await;
        let Ok(Ok(room)) = room else {
            discard(body).await;
            return Err(busy());
        };
        match timeout(self.patience, self.gathered(body)).await {
            Ok(bytes) => Ok(Bytes::from_owner(Held {
                bytes: bytes?,
                _room: room,
            })),
            Err(_) => Err(late()),
        }
    }

    async fn gathered(&self, body: Body) -> Result<Vec<u8>, Fault> {
        let mut chunks = body.into_data_stream();
        let mut whole = Vec::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| {
                let message = format!("the request cannot be read: {error}");
                Fault::new(StatusCode::BAD_REQUEST, "invalid_request", message)
            })?;
            if whole.len() + chunk.len() > self.most {
                return Err(self.too_large());
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole)
    }

    fn too_large(&self) -> Fault {
        let message = format!(
            "the request has more than {} bytes (`--max-body`)",
            self.most
        );
        Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }
}

/// Units of room that so many bytes take.
fn units(bytes: usize) -> u32 {
    const MOST: usize = Semaphore::MAX_PERMITS / AT_ONCE;
    if bytes <= SMALL {
        return 0;
    }
    u32::try_from(bytes.div_ceil(UNIT).min(MOST)).unwrap_or(u32::MAX)
}

fn late() -> Fault {
    let message = format!("the request did not come within {} s", PATIENCE.as_secs());
    Fault::new(StatusCode::REQUEST_TIMEOUT, "timeout", message)
}

fn busy() -> Fault {
    let message = "too many large requests come at once";
    Fault::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message).hint("ask again in a moment")
}

/// Takes in some of a body that is refused: a client that still sends would not see the answer.
async fn discard(body: Body) {
    let mut chunks = body.into_data_stream();
    let taking = async {
        let mut taken = 0;
        while let Some(Ok(chunk)) = chunks.next().await {
            taken += chunk.len();
            if taken > MOST_DISCARDED {
                break;
            }
        }
    };
    // What comes later is not waited for.
    let _ = timeout(MOMENT, taking).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bodies_have_room_for_as_long_as_they_are_held() {
        const LARGE: usize = 2 * SMALL;
        let room = Room {
            patience: Duration::from_millis(20),
            ..Room::new(LARGE)
        };
        let read = |bytes: usize| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_LENGTH, bytes.into());
            let room = &room;
            async move { room.read(Body::from(vec![0; bytes]), &headers).await }
        };
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.push(read(LARGE).await.unwrap());
        }
        assert_eq!(read(SMALL + 1).await.unwrap_err().code, "busy");
        assert_eq!(read(SMALL).await.unwrap().len(), SMALL);
        held.pop();
        assert_eq!(read(LARGE).await.unwrap().len(), LARGE);
        assert_eq!(read(LARGE + 1).await.unwrap_err().code, "too_large");
        let silent = room.read(Body::from(vec![0; 3]), &HeaderMap::new()).await;
        assert_eq!(silent.unwrap(), vec![0; 3]);
    }

    #[test]
    fn there_is_room_for_bodies_of_any_size() {
        let room = Room::new(usize::MAX);
        assert!(room.left.available_permits() >= units(usize::MAX) as usize);
    }
}
