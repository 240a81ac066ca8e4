//! The payloads of polls, beside engineioxide-core, which reads and writes them by code of its own.

use bytes::Bytes;
use engineioxide_core::payload::{decoder, packet_encoder};
use engineioxide_core::{Packet, ProtocolVersion};
use futures_util::{FutureExt, StreamExt};
use http_body_util::Full;
use model::Framing;

use crate::support::dice::Dice;

const MAX: u64 = 1 << 20;

/// Letters of one, two and four bytes, digits and colons: what lengths and borders may trip over.
fn text(dice: &mut Dice) -> String {
    const LETTERS: [char; 9] = ['a', '"', ':', '7', '0', 'é', '€', '😀', '\n'];
    (0..dice.roll(12)).map(|_| dice.pick(&LETTERS)).collect()
}

fn version(framing: Framing) -> ProtocolVersion {
    if framing == Framing::Counted { ProtocolVersion::V3 } else { ProtocolVersion::V4 }
}

/// What engineioxide-core reads; `None`: it does not.
fn read(framing: Framing, text: &str) -> Option<Vec<Packet>> {
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes()));
    let packets = decoder(body, None, version(framing), MAX).collect::<Vec<_>>().now_or_never()?;
    packets.into_iter().collect::<Result<_, _>>().ok()
}

#[test]
fn each_reads_what_the_other_writes() {
    let mut dice = Dice(7);
    for framing in [Framing::Counted, Framing::Separated] {
        for _ in 0..5_000 {
            let texts: Vec<String> = (0..1 + dice.roll(5)).map(|_| text(&mut dice)).collect();
            let packets: Vec<Packet> = texts.iter().map(|text| Packet::Message(text.clone().into())).collect();
            let mut ours = Vec::new();
            texts.iter().for_each(|text| framing.message(format!("4{text}").as_bytes(), &mut ours));
            let ours = std::str::from_utf8(framing.body(&ours)).unwrap();
            assert_eq!(read(framing, ours), Some(packets.clone()), "{ours}");
            let theirs: Vec<String> = packets
                .into_iter()
                .map(|packet| packet_encoder(packet, version(framing), false))
                .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
                .collect();
            let theirs = theirs.join(if framing == Framing::Counted { "" } else { "\u{1e}" });
            let expected: Vec<String> = texts.iter().map(|text| format!("4{text}")).collect();
            assert_eq!(framing.packets(&theirs).unwrap(), expected, "{theirs}");
        }
    }
}
