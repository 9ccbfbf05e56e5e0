//! Packets as a client writes them: the other direction of what the engine reads, in the plainest form.

use crate::engine::{Hello, Packet, Version};

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u16::try_from(bytes.len()).expect("a text of a packet").to_be_bytes());
    out.extend_from_slice(bytes);
}

fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut length = body.len();
    while length > 0x7f {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(body);
    out
}

pub(super) fn hello(hello: &Hello) -> Vec<u8> {
    let five = hello.version == Version::V5;
    let mut body = b"\0\x04MQTT".to_vec();
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    body.push(if five { 5 } else { 4 });
    body.push(
        flag(hello.clean, 0x02)
            | flag(hello.will.is_some(), 0x04)
            | flag(hello.password.is_some(), 0x40)
            | flag(hello.user_name.is_some(), 0x80),
    );
    body.extend_from_slice(&hello.keep_alive.to_be_bytes());
    if five {
        let mut properties = vec![0x21];
        properties.extend_from_slice(&hello.receive_maximum.to_be_bytes());
        if let Ok(most) = u32::try_from(hello.packet_maximum) {
            properties.push(0x27);
            properties.extend_from_slice(&most.to_be_bytes());
        }
        properties.extend_from_slice(&[0x17, u8::from(hello.problem_information)]);
        properties.extend_from_slice(&[0x11, 0, 0, 0, u8::from(hello.wants_session)]);
        body.push(properties.len() as u8);
        body.extend_from_slice(&properties);
    }
    text(&mut body, hello.client_id.as_bytes());
    if let Some(will) = &hello.will {
        if five {
            body.push(0);
        }
        text(&mut body, will.topic.as_bytes());
        text(&mut body, &will.payload);
    }
    if let Some(name) = &hello.user_name {
        text(&mut body, name.as_bytes());
    }
    if let Some(password) = &hello.password {
        text(&mut body, password);
    }
    framed(0x10, &body)
}

pub(super) fn packet(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let five = version == Version::V5;
    let with_id = |id: u16| {
        let mut body = id.to_be_bytes().to_vec();
        if five {
            body.push(0);
        }
        body
    };
    match packet {
        Packet::Publish(publish) => {
            let mut body = Vec::new();
            text(&mut body, publish.topic.as_bytes());
            if let Some(id) = publish.id {
                body.extend_from_slice(&id.to_be_bytes());
            }
            match publish.alias {
                Some(alias) if five => {
                    body.extend_from_slice(&[3, 0x23]);
                    body.extend_from_slice(&alias.to_be_bytes());
                }
                _ if five => body.push(0),
                _ => {}
            }
            body.extend_from_slice(publish.payload);
            framed(0x30 | publish.qos << 1 | u8::from(publish.retain), &body)
        }
        Packet::PubAck(id) => framed(0x40, &id.to_be_bytes()),
        Packet::PubRel(id) => framed(0x62, &id.to_be_bytes()),
        Packet::Subscribe(id, wanted) => {
            let mut body = with_id(*id);
            for wanted in wanted {
                text(&mut body, wanted.filter.as_bytes());
                body.push(wanted.qos | if wanted.no_local { 4 } else { 0 });
            }
            framed(0x82, &body)
        }
        Packet::Unsubscribe(id, filters) => {
            let mut body = with_id(*id);
            for filter in filters {
                text(&mut body, filter.as_bytes());
            }
            framed(0xa2, &body)
        }
        Packet::PingReq => framed(0xc0, &[]),
        Packet::Disconnect(code) => framed(0xe0, if five { std::slice::from_ref(code) } else { &[] }),
    }
}
