//! Joined frames: a batch of one channel's messages, encoded once for all subscribers that share an encoding and framing.

use std::sync::Arc;

use bytes::Bytes;
use model::{Delivery, Dialect, Encoding, Framing};

/// Encodings shared in a batch; further ones are encoded for their socket alone.
const RUNS_MAX: usize = 8;

/// One encoding's bytes of a batch.
pub(crate) struct Run {
    encoding: Encoding,
    framing: Framing,
    pub(crate) bytes: Bytes,
    /// Where each message's frame ends. A message that this dialect does not tell has an empty frame.
    ends: Vec<u32>,
    /// Frames that are not empty.
    pub(crate) frames: u32,
}

/// Messages of one channel that are written together, in order.
pub(crate) struct Batch {
    pub(crate) deliveries: Vec<Arc<Delivery>>,
    /// (message, connection slot) pairs: who does not hear what. Short.
    pub(crate) excluded: Vec<(u32, u32)>,
    runs: Vec<Run>,
}

impl Batch {
    pub(crate) fn new(deliveries: Vec<Arc<Delivery>>, excluded: Vec<(u32, u32)>) -> Self {
        Self { deliveries, excluded, runs: Vec::new() }
    }

    /// The run for this encoding; `alone` is where it is put when too many are shared already.
    pub(crate) fn run<'a>(
        &'a mut self,
        dialects: &[&dyn Dialect],
        encoding: Encoding,
        framing: Framing,
        alone: &'a mut Option<Run>,
    ) -> &'a Run {
        let known = self.runs.iter().position(|run| run.encoding == encoding && run.framing == framing);
        if let Some(index) = known {
            return &self.runs[index];
        }
        let run = Run::encode(&self.deliveries, dialects, encoding, framing);
        if self.runs.len() < RUNS_MAX {
            self.runs.push(run);
            return &self.runs[self.runs.len() - 1];
        }
        alone.insert(run)
    }
}

impl Run {
    fn encode(deliveries: &[Arc<Delivery>], dialects: &[&dyn Dialect], encoding: Encoding, framing: Framing) -> Self {
        let size: usize = deliveries.iter().map(|delivery| delivery.bytes()).sum();
        let mut bytes = Vec::with_capacity(size);
        let mut ends = Vec::with_capacity(deliveries.len());
        let mut payload = Vec::with_capacity(size / deliveries.len().max(1));
        let mut frames = 0;
        for delivery in deliveries {
            payload.clear();
            if let Some(dialect) = dialects.get(usize::from(encoding.dialect)) {
                dialect.broadcast(encoding, delivery.channel.name.as_str(), &delivery.broadcast, &mut payload);
            }
            if !payload.is_empty() {
                framing.message(&payload, &mut bytes);
                frames += 1;
            }
            // A batch is at most 256 KiB, or one message of at most some MiB.
            ends.push(bytes.len() as u32);
        }
        Self { encoding, framing, bytes: bytes.into(), ends, frames }
    }

    /// The run without the frames that this connection must not hear, and how many frames are left.
    pub(crate) fn without(&self, excluded: &[(u32, u32)], slot: u32) -> (Vec<Bytes>, u32) {
        let mut parts = Vec::new();
        let (mut from, mut frames) = (0, self.frames);
        for &(message, _) in excluded.iter().filter(|(_, who)| *who == slot) {
            let start = if message == 0 { 0 } else { self.ends[message as usize - 1] };
            let end = self.ends[message as usize];
            if start > from {
                parts.push(self.bytes.slice(from as usize..start as usize));
            }
            frames -= u32::from(end > start);
            from = end;
        }
        if (from as usize) < self.bytes.len() {
            parts.push(self.bytes.slice(from as usize..));
        }
        (parts, frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::View;

    fn run(frames: &[&'static str]) -> Run {
        let mut ends = Vec::new();
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend_from_slice(frame.as_bytes());
            ends.push(bytes.len() as u32);
        }
        let encoding = Encoding { dialect: 0, variant: 0, view: View::Channel, positions: false };
        Run { encoding, framing: Framing::WebSocket, bytes: bytes.into(), ends, frames: frames.len() as u32 }
    }

    #[test]
    fn slices_leave_out_what_is_not_for_this_socket() {
        let check = |excluded: &[(u32, u32)], slot: u32, expected: &[&str]| {
            let run = run(&["one", "two", "three"]);
            let (parts, frames) = run.without(excluded, slot);
            assert_eq!(parts, expected.iter().map(|p| Bytes::from(p.to_string())).collect::<Vec<_>>());
            let left_out = excluded.iter().filter(|(_, who)| *who == slot).count() as u32;
            assert_eq!(frames, 3 - left_out);
        };
        check(&[(1, 7)], 7, &["one", "three"]);
        check(&[(1, 7)], 8, &["onetwothree"]);
        check(&[(0, 7)], 7, &["twothree"]);
        check(&[(2, 7)], 7, &["onetwo"]);
        check(&[(0, 7), (1, 8), (2, 7)], 7, &["two"]);
        check(&[(0, 7), (1, 7), (2, 7)], 7, &[]);
    }
}
