//! A request's options, read in place and judged by RFC 7252 §5.4: which are known, which may stand once, how long each is.

use super::wire::{code, option};

/// Path segments that any resource here has at most, and some more.
const SEGMENTS: usize = 6;
const QUERIES: usize = 4;

/// What a request's options say.
#[derive(Debug, Default)]
pub(crate) struct Request<'a> {
    segments: [&'a [u8]; SEGMENTS],
    segment_count: usize,
    queries: [&'a [u8]; QUERIES],
    query_count: usize,
    pub(crate) content_format: Option<u32>,
    pub(crate) accept: Option<u32>,
    pub(crate) observe: Option<u32>,
    pub(crate) block1: Option<Block>,
    pub(crate) block2: Option<Block>,
    pub(crate) size1: Option<u32>,
    pub(crate) echo: Option<&'a [u8]>,
    /// RFC 7967: classes of responses the client does not want.
    pub(crate) no_response: u8,
    /// RFC 9175 §3: absent and empty are two tags.
    pub(crate) request_tag: Option<&'a [u8]>,
    pub(crate) payload: &'a [u8],
}

/// A block option's value (RFC 7959 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) number: u32,
    pub(crate) more: bool,
    pub(crate) szx: u8,
}

impl Block {
    fn read(value: u32) -> Self {
        Self { number: value >> 4, more: value & 8 != 0, szx: (value & 7) as u8 }
    }

    pub(crate) fn value(self) -> u32 {
        self.number << 4 | u32::from(self.more) << 3 | u32::from(self.szx)
    }

    /// Bytes of a block; `None` for the reserved exponent 7.
    pub(crate) fn size(self) -> Option<usize> {
        (self.szx < 7).then(|| 16 << self.szx)
    }

    /// Where the block begins.
    pub(crate) fn offset(self) -> Option<usize> {
        self.size().map(|size| self.number as usize * size)
    }
}

/// Why the options cannot be obeyed: the code to answer a confirmable request with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) u8);

impl<'a> Request<'a> {
    /// Reads what [`super::precheck::check`] has passed; `rest` begins after the token.
    pub(crate) fn read(rest: &'a [u8]) -> Result<Self, Refused> {
        let mut request = Request::default();
        let mut options = Options { rest, number: 0 };
        let mut previous = None;
        for (number, value) in options.by_ref() {
            let again = previous.replace(number) == Some(number);
            request.take(number, value, again)?;
        }
        request.payload = options.rest.get(1..).unwrap_or_default();
        Ok(request)
    }

    pub(crate) fn segments(&self) -> &[&'a [u8]] {
        &self.segments[..self.segment_count.min(SEGMENTS)]
    }

    /// Whether the path has more segments than were kept.
    pub(crate) fn path_too_long(&self) -> bool {
        self.segment_count > SEGMENTS
    }

    pub(crate) fn queries(&self) -> &[&'a [u8]] {
        &self.queries[..self.query_count]
    }

    fn take(&mut self, number: u16, value: &'a [u8], again: bool) -> Result<(), Refused> {
        let bad_option = Refused(code::BAD_OPTION);
        // A wrong length or a surplus copy of a critical option is treated like an unknown one (§5.4.3, §5.4.5).
        let once = |most: usize| if again || value.len() > most { Err(bad_option) } else { Ok(number_of(value)) };
        match number {
            option::PROXY_URI | option::PROXY_SCHEME => return Err(Refused(code::PROXYING_NOT_SUPPORTED)),
            option::URI_HOST if again || value.is_empty() || value.len() > 255 => return Err(bad_option),
            option::URI_PORT => {
                once(2)?;
            }
            option::URI_HOST => {}
            option::URI_PATH => {
                if value.len() > 255 {
                    return Err(bad_option);
                }
                if let Some(slot) = self.segments.get_mut(self.segment_count) {
                    *slot = value;
                }
                self.segment_count += 1;
            }
            option::URI_QUERY => {
                if value.len() > 255 {
                    return Err(bad_option);
                }
                if let Some(slot) = self.queries.get_mut(self.query_count) {
                    *slot = value;
                    self.query_count += 1;
                }
            }
            option::ACCEPT => self.accept = Some(once(2)?),
            option::BLOCK1 => self.block1 = Some(Block::read(once(3)?)),
            option::BLOCK2 => self.block2 = Some(Block::read(once(3)?)),
            // If-Match, If-None-Match, OSCORE, Q-Block1, Q-Block2 and whatever else is critical.
            critical if critical & 1 == 1 => return Err(bad_option),
            // Elective ones that are wrong are as if they were not there.
            option::CONTENT_FORMAT if !again && value.len() <= 2 => self.content_format = Some(number_of(value)),
            option::OBSERVE if !again && value.len() <= 3 => self.observe = Some(number_of(value)),
            option::SIZE1 if !again && value.len() <= 4 => self.size1 = Some(number_of(value)),
            option::ECHO if !again && (1..=40).contains(&value.len()) => self.echo = Some(value),
            option::NO_RESPONSE if !again && value.len() <= 1 => self.no_response = number_of(value) as u8,
            option::REQUEST_TAG if !again && value.len() <= 8 => self.request_tag = Some(value),
            _ => {}
        }
        Ok(())
    }
}

/// An unsigned integer of up to four bytes (§3.2).
fn number_of(value: &[u8]) -> u32 {
    value.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

struct Options<'a> {
    rest: &'a [u8],
    number: u16,
}

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (first, tail) = self.rest.split_first().filter(|(first, _)| **first != 0xff)?;
        let (delta, tail) = super::precheck::extended(first >> 4, tail)?;
        let (length, tail) = super::precheck::extended(first & 0x0f, tail)?;
        let (value, rest) = tail.split_at_checked(length as usize)?;
        self.number = self.number.saturating_add(u16::try_from(delta).unwrap_or(u16::MAX));
        self.rest = rest;
        Some((self.number, value))
    }
}

#[cfg(test)]
mod tests {
    use coap_lite::{CoapOption, Packet};
    use proptest::prelude::*;

    use super::*;

    fn packet(options: &[(u16, &[u8])], payload: &[u8]) -> Vec<u8> {
        let mut packet = Packet::new();
        for (number, value) in options {
            packet.add_option(CoapOption::from(*number), value.to_vec());
        }
        packet.payload = payload.to_vec();
        packet.to_bytes().expect("a packet")
    }

    fn read<T>(options: &[(u16, &[u8])], look: impl Fn(Result<Request<'_>, Refused>) -> T) -> T {
        look(Request::read(&packet(options, b"body")[4..]))
    }

    #[test]
    fn each_option_is_taken_for_what_it_is() {
        let options: &[(u16, &[u8])] = &[
            (option::URI_HOST, b"h"),
            (option::OBSERVE, b""),
            (option::URI_PORT, b"\x16\x33"),
            (option::URI_PATH, b"api"),
            (option::URI_PATH, b""),
            (option::CONTENT_FORMAT, b"\x32"),
            (option::URI_QUERY, b"a=b"),
            (option::ACCEPT, b"\x32"),
            (option::BLOCK2, b"\x06"),
            (option::BLOCK1, b"\x01\x0e"),
            (option::SIZE1, b"\x10\x00"),
            (option::ECHO, b"echo"),
            (option::NO_RESPONSE, b"\x02"),
            (option::REQUEST_TAG, b""),
            (600, b"elective"),
        ];
        read(options, |request| {
            let request = request.expect("good");
            assert_eq!(request.segments(), [&b"api"[..], b""]);
            assert_eq!(request.queries(), [b"a=b"]);
            assert_eq!((request.content_format, request.accept, request.observe), (Some(50), Some(50), Some(0)));
            assert_eq!(request.block1, Some(Block { number: 16, more: true, szx: 6 }));
            assert_eq!(request.block1.expect("a block").value(), 0x10e);
            assert_eq!((request.size1, request.echo, request.no_response), (Some(4096), Some(&b"echo"[..]), 2));
            assert_eq!((request.request_tag, request.payload), (Some(&b""[..]), &b"body"[..]));
        });
    }

    #[test]
    fn critical_options_that_are_unknown_surplus_or_too_long_are_refused() {
        let long = [0_u8; 256];
        type Case<'a> = (&'a str, &'a [(u16, &'a [u8])], u8);
        let cases: &[Case<'_>] = &[
            ("If-Match", &[(1, b"x")], code::BAD_OPTION),
            ("If-None-Match", &[(5, b"")], code::BAD_OPTION),
            ("OSCORE", &[(9, b"x")], code::BAD_OPTION),
            ("Q-Block1", &[(19, b"x")], code::BAD_OPTION),
            ("Q-Block2", &[(31, b"x")], code::BAD_OPTION),
            ("unknown", &[(65_001, b"x")], code::BAD_OPTION),
            ("two Accept", &[(17, b"\x32"), (17, b"\x32")], code::BAD_OPTION),
            ("two Block1", &[(27, b"\x06"), (27, b"\x06")], code::BAD_OPTION),
            ("long Block1", &[(27, b"1234")], code::BAD_OPTION),
            ("long Uri-Port", &[(7, b"123")], code::BAD_OPTION),
            ("empty Uri-Host", &[(3, b"")], code::BAD_OPTION),
            ("long Uri-Path", &[(11, &long)], code::BAD_OPTION),
            ("Proxy-Uri", &[(35, b"coap://x")], code::PROXYING_NOT_SUPPORTED),
            ("Proxy-Scheme", &[(39, b"coap")], code::PROXYING_NOT_SUPPORTED),
        ];
        for (what, options, refused) in cases {
            assert_eq!(read(options, |request| request.map(|_| ()).err()), Some(Refused(*refused)), "{what}");
        }
    }

    #[test]
    fn wrong_elective_options_are_as_if_absent() {
        read(&[(6, b"1234"), (12, b"123"), (60, b"12345"), (252, b""), (258, b"12"), (292, b"123456789")], |request| {
            let request = request.expect("good");
            assert!(request.observe.is_none() && request.content_format.is_none() && request.size1.is_none());
            assert!(request.echo.is_none() && request.no_response == 0 && request.request_tag.is_none());
        });
    }

    proptest! {
        #[test]
        fn what_passes_the_precheck_reads_like_the_other_codec_reads_it(
            options in prop::collection::vec((0_u16..3000, prop::collection::vec(any::<u8>(), 0..100)), 0..11),
            payload in prop::collection::vec(any::<u8>(), 0..32),
        ) {
            let given: Vec<(u16, &[u8])> = options.iter().map(|(number, value)| (*number, &value[..])).collect();
            let bytes = packet(&given, &payload);
            prop_assert!(super::super::precheck::check(&bytes).is_ok());
            let mut walk = Options { rest: &bytes[4..], number: 0 };
            let mut ours: Vec<(u16, Vec<u8>)> = walk.by_ref().map(|(number, value)| (number, value.to_vec())).collect();
            let theirs = Packet::from_bytes(&bytes).expect("a packet");
            let mut expected: Vec<(u16, Vec<u8>)> = theirs
                .options()
                .flat_map(|(number, values)| values.iter().map(|value| (*number, value.clone())))
                .collect();
            ours.sort();
            expected.sort();
            prop_assert_eq!(ours, expected);
            prop_assert_eq!(walk.rest.get(1..).unwrap_or_default(), &payload[..]);
        }
    }
}
