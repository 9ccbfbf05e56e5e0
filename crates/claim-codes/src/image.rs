//! QR images of payloads: PNG, SVG, and half blocks for terminals. Level M, a quiet zone of four modules, whole pixels a
//! module.
//!
//! An image holds the code: whoever serves it says `no-store`.

use std::fmt::{self, Write as _};

use qrcode::{Color, EcLevel, QrCode};

/// Modules of white around the symbol (ISO/IEC 18004).
const QUIET: usize = 4;
/// Sizes a PNG may have, in pixels a side.
pub const PNG_PIXELS: std::ops::RangeInclusive<u32> = 10..=1000;

/// Why there is no image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFault {
    /// More text than a QR code of level M holds.
    TooMuchText,
    /// A module would be smaller than a pixel; this many are needed.
    TooSmall(u32),
    /// The image could not be encoded.
    Encoder,
}

impl fmt::Display for ImageFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMuchText => f.write_str("the text is too long for a QR code of level M"),
            Self::TooSmall(least) => write!(f, "the code needs {least} pixels a side at least"),
            Self::Encoder => f.write_str("the image could not be made"),
        }
    }
}

impl std::error::Error for ImageFault {}

/// The modules of a symbol with its quiet zone.
pub struct Symbol {
    dark: Vec<bool>,
    side: usize,
}

impl Symbol {
    /// The symbol of a text.
    pub fn new(text: &str) -> Result<Self, ImageFault> {
        let code = QrCode::with_error_correction_level(text, EcLevel::M).map_err(|_| ImageFault::TooMuchText)?;
        let (inner, colors) = (code.width(), code.to_colors());
        let side = inner + 2 * QUIET;
        let mut dark = vec![false; side * side];
        for (row, colors) in colors.chunks_exact(inner).enumerate() {
            let start = (row + QUIET) * side + QUIET;
            for (module, color) in dark[start..start + inner].iter_mut().zip(colors) {
                *module = *color == Color::Dark;
            }
        }
        Ok(Self { dark, side })
    }

    /// Modules a side, with the quiet zone.
    pub fn side(&self) -> usize {
        self.side
    }

    fn is_dark(&self, x: usize, y: usize) -> bool {
        y < self.side && self.dark[y * self.side + x]
    }

    /// A square PNG of exactly `pixels` a side: as large as whole pixels a module allow, in the middle of white.
    pub fn png(&self, pixels: u32) -> Result<Vec<u8>, ImageFault> {
        let size = pixels as usize;
        let scale = size / self.side;
        if scale == 0 {
            return Err(ImageFault::TooSmall(self.side as u32));
        }
        let margin = (size - scale * self.side) / 2;
        let row_bytes = size.div_ceil(8);
        // One bit a pixel, 1 is white.
        let mut image = vec![0xff_u8; row_bytes * size];
        for y in 0..self.side {
            for x in (0..self.side).filter(|x| self.is_dark(*x, y)) {
                for row in margin + y * scale..margin + (y + 1) * scale {
                    for column in margin + x * scale..margin + (x + 1) * scale {
                        image[row * row_bytes + column / 8] &= !(0x80 >> (column % 8));
                    }
                }
            }
        }
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, pixels, pixels);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::One);
        let mut writer = encoder.write_header().map_err(|_| ImageFault::Encoder)?;
        writer.write_image_data(&image).map_err(|_| ImageFault::Encoder)?;
        writer.finish().map_err(|_| ImageFault::Encoder)?;
        Ok(bytes)
    }

    /// An SVG in module units: it has a shape, its user gives it a size.
    pub fn svg(&self) -> String {
        let side = self.side;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\">\
             <rect width=\"{side}\" height=\"{side}\" fill=\"#fff\"/><path fill=\"#000\" d=\""
        );
        for y in 0..side {
            let mut x = 0;
            while x < side {
                let run = (x..side).take_while(|x| self.is_dark(*x, y)).count();
                if run > 0 {
                    let _ = write!(svg, "M{x} {y}h{run}v1h-{run}z");
                }
                x += run.max(1);
            }
        }
        svg.push_str("\"/></svg>\n");
        svg
    }

    /// Two rows of modules a line. White is drawn as blocks, so that it can be read on a dark terminal.
    pub fn half_blocks(&self) -> String {
        let mut text = String::new();
        for y in (0..self.side).step_by(2) {
            for x in 0..self.side {
                let below = y + 1 < self.side && !self.is_dark(x, y + 1);
                text.push(match (!self.is_dark(x, y), below) {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => ' ',
                });
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_png_has_exactly_the_size_asked_for() {
        let symbol = Symbol::new("LW:D0:1122334455667788:AABBCCDDEEFF0011:AABB1122:OABCD:C49E1").unwrap();
        for pixels in [symbol.side() as u32, 100, 300, 1000] {
            let png = symbol.png(pixels).unwrap();
            let reader = png::Decoder::new(std::io::Cursor::new(&png)).read_info().unwrap();
            assert_eq!((reader.info().width, reader.info().height), (pixels, pixels));
        }
        let least = symbol.side() as u32;
        assert_eq!(symbol.png(least - 1), Err(ImageFault::TooSmall(least)));
    }

    #[test]
    fn the_quiet_zone_is_four_modules_wide_on_every_side() {
        let symbol = Symbol::new("x").unwrap();
        let side = symbol.side();
        assert_eq!(side, 21 + 8);
        let dark: Vec<(usize, usize)> =
            (0..side * side).map(|at| (at % side, at / side)).filter(|(x, y)| symbol.is_dark(*x, *y)).collect();
        assert!(dark.iter().all(|(x, y)| (4..side - 4).contains(x) && (4..side - 4).contains(y)));
        assert!(dark.contains(&(4, 4)) && dark.contains(&(side - 5, 4)) && dark.contains(&(4, side - 5)));
    }

    #[test]
    fn every_form_shows_the_same_modules() {
        let symbol = Symbol::new("the same").unwrap();
        let side = symbol.side();
        let text = symbol.half_blocks();
        let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
        assert_eq!((lines.len(), lines[0].len()), (side.div_ceil(2), side));
        let mut dark_in_svg = vec![false; side * side];
        let svg = symbol.svg();
        for run in svg.split('M').skip(1) {
            let (x, rest) = run.split_once(' ').unwrap();
            let (y, rest) = rest.split_once('h').unwrap();
            let (length, _) = rest.split_once('v').unwrap();
            let (x, y, length): (usize, usize, usize) =
                (x.parse().unwrap(), y.parse().unwrap(), length.parse().unwrap());
            dark_in_svg[y * side + x..y * side + x + length].fill(true);
        }
        for y in 0..side {
            for x in 0..side {
                let half = lines[y / 2][x];
                let white = if y % 2 == 0 { matches!(half, '█' | '▀') } else { matches!(half, '█' | '▄') };
                assert_eq!(
                    (symbol.is_dark(x, y), symbol.is_dark(x, y)),
                    (!white, dark_in_svg[y * side + x]),
                    "{x} {y}"
                );
            }
        }
    }

    #[test]
    fn too_much_text_is_said() {
        assert_eq!(Symbol::new(&"x".repeat(3000)).map(drop), Err(ImageFault::TooMuchText));
    }
}
