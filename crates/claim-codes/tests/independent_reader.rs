//! Our QR images, as somebody else's reader sees them: `zbarimg` of Debian's zbar-tools.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::Command;

use claim::{Eui64, Secret};
use claim_codes::image::Symbol;
use claim_codes::qr::{EndDevice, Format, write};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const PAYLOADS: usize = 300;

fn reader() -> Command {
    let path = Path::new("/usr/bin/zbarimg");
    assert!(path.exists(), "zbarimg is missing; hint: `cargo xtask setup`, or apt-get install zbar-tools");
    Command::new(path)
}

/// What the reader makes of the images, in their order.
fn read(images: &[PathBuf]) -> Vec<String> {
    let output = reader().args(["--raw", "-q", "-Sdisable", "-Sqrcode.enable"]).args(images).output().expect("zbarimg");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(str::to_owned).collect()
}

/// Texts of all three written formats, with whatever devices and codes.
fn payloads(random: &mut StdRng) -> Vec<String> {
    let letters = |random: &mut StdRng, letters: &[u8], most: usize| {
        let length = random.random_range(1..=most);
        (0..length).map(|_| char::from(letters[random.random_range(0..letters.len())])).collect::<String>()
    };
    let mixed: Vec<u8> = (b'0'..=b'9').chain(b'A'..=b'Z').chain(b'a'..=b'z').collect();
    let upper = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    (0..PAYLOADS)
        .map(|number| {
            let device = EndDevice {
                join_eui: Some(Eui64::from_bytes(random.random())),
                dev_eui: Some(Eui64::from_bytes(random.random())),
                profile: Some(random.random()),
                name: Some(letters(random, b"abc xyz-/%#\xe9", 40)),
                code: Some(Secret::new(if number % 2 == 0 {
                    letters(random, upper, 32)
                } else {
                    letters(random, &mixed, 32)
                })),
                serial: (number % 3 == 0).then(|| letters(random, upper, 20)),
                ..EndDevice::default()
            };
            let format = Format::WRITTEN[number % Format::WRITTEN.len()];
            write(format, &device, "https://claim.example.com").expect("a payload").expose().clone()
        })
        .collect()
}

#[test]
fn every_image_is_read_as_the_text_it_was_made_of() {
    let mut random = StdRng::seed_from_u64(7);
    let folder = tempfile::tempdir().expect("a folder");
    let texts = payloads(&mut random);
    let images: Vec<PathBuf> = texts
        .iter()
        .enumerate()
        .map(|(number, text)| {
            let path = folder.path().join(format!("{number}.png"));
            let pixels = random.random_range(150..=600);
            std::fs::write(&path, Symbol::new(text).expect("a symbol").png(pixels).expect("an image"))
                .expect("written");
            path
        })
        .collect();
    assert_eq!(read(&images), texts);
}

/// Level M restores 15 % of the code words: a blot of a thirtieth of the symbol is nothing to it.
#[test]
fn a_blot_on_the_label_does_no_harm() {
    let mut random = StdRng::seed_from_u64(8);
    let folder = tempfile::tempdir().expect("a folder");
    let texts: Vec<String> = payloads(&mut random).into_iter().take(60).collect();
    let images: Vec<PathBuf> = texts
        .iter()
        .enumerate()
        .map(|(number, text)| {
            let path = folder.path().join(format!("{number}.png"));
            let symbol = Symbol::new(text).expect("a symbol");
            let pixels = symbol.side() as u32 * 8;
            let png = symbol.png(pixels).expect("an image");
            blot(&png, &path, &mut random);
            path
        })
        .collect();
    let read = read(&images);
    let unread: Vec<&String> = texts.iter().filter(|text| !read.contains(text)).collect();
    assert_eq!(unread, Vec::<&String>::new(), "{} of {}", unread.len(), texts.len());
}

/// Paints a square of a thirtieth of the symbol's area over its middle, where no pattern is that a reader needs to find it.
fn blot(png: &[u8], path: &Path, random: &mut impl Rng) {
    let mut decoder = png::Decoder::new(BufReader::new(std::io::Cursor::new(png)));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
    let info = reader.next_frame(&mut pixels).expect("pixels");
    let side = info.width as usize;
    let inner = side - side / 5;
    let size = (inner as f64 * (1.0_f64 / 30.0).sqrt()) as usize;
    let start = side / 2 - size / 2;
    let white = random.random();
    for row in start..start + size {
        pixels[row * side + start..row * side + start + size].fill(if white { 255 } else { 0 });
    }
    let mut encoder = png::Encoder::new(BufWriter::new(File::create(path).expect("a file")), info.width, info.height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header().expect("written").write_image_data(&pixels).expect("written");
}
