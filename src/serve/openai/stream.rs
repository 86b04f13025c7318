//! Answers step by step, as `OpenAI`'s events.

use std::{collections::VecDeque, convert::Infallible};

use axum::response::{Response, sse::Event};
use futures_util::stream;
use serde_json::{Value, json};

use super::{
    answer::{size, usage},
    ask::Reply,
};
use crate::serve::{
    events::{self, Following, Sight},
    fault::{Fault, Form},
    job::{Seen, since_epoch},
    once::{Once, outcome},
    read::to_base64,
};

/// A stream of previews, and then of pictures.
struct Streaming {
    following: Following,
    reply: Reply,
    shown: u32,
    pending: VecDeque<Event>,
    /// Stops the job if the stream is dropped before its end.
    once: Once,
}

/// Answers with events; the job ends with the stream.
pub(super) fn answer(once: Once, reply: Reply) -> Response {
    let steps = once.job.now().steps;
    if reply.partial_images > 0 {
        let every = steps / (reply.partial_images as usize + 1);
        once.job.show_every(every.max(1));
    }
    let streaming = Streaming {
        following: Following::new(std::sync::Arc::clone(&once.job)),
        reply,
        shown: 0,
        pending: VecDeque::new(),
        once,
    };
    let stream = stream::unfold(streaming, async |mut streaming| {
        let event = streaming.next().await?;
        Some((Ok::<_, Infallible>(event), streaming))
    });
    events::answer(stream)
}

impl Streaming {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            match self.following.next().await? {
                Sight::Preview(preview) if self.shown < self.reply.partial_images => {
                    let mut data = self.data(to_base64(&preview.jpeg), "partial_image");
                    data["partial_image_index"] = self.shown.into();
                    data["output_format"] = "jpeg".into();
                    self.shown += 1;
                    return Some(named(&data));
                }
                Sight::State(seen) if seen.state.stays() => self.finish(*seen).await,
                _ => {}
            }
        }
    }

    async fn finish(&mut self, seen: Seen) {
        let files = match outcome(seen) {
            Ok(seen) => self.once.files(&seen).await.map(|files| (seen, files)),
            Err(fault) => Err(fault),
        };
        match files {
            Ok((seen, files)) => {
                let images = seen.images.as_array().cloned().unwrap_or_default();
                for (number, file) in files.iter().enumerate() {
                    let mut data = self.data(to_base64(file), "completed");
                    data["size"] = size(&images[number..]).into();
                    data["seed"] = images[number]["seed"].clone();
                    data["usage"] = usage();
                    self.pending.push_back(named(&data));
                }
            }
            Err(fault) => self.pending.push_back(failed(&fault)),
        }
    }

    fn data(&self, picture: String, what: &str) -> Value {
        json!({
            "type": format!("{}.{what}", self.reply.kind),
            "b64_json": picture,
            "created_at": since_epoch(self.once.job.now().created) as u64,
            "size": "auto",
            "quality": "auto",
            "background": "opaque",
            "output_format": self.reply.format,
        })
    }
}

/// An event that is called by its type.
fn named(data: &Value) -> Event {
    events::event(data["type"].as_str().unwrap_or_default(), data)
}

fn failed(fault: &Fault) -> Event {
    let mut data = fault.body(Form::OpenAi);
    data["type"] = "error".into();
    named(&data)
}
