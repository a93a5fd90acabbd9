//! Synthetic photos for tests: textured, coloured, full of corners, and the same on every machine for one seed.
//!
//! Two seeds look different to every measure of this crate; one seed at two sizes shows the same scene.

use crate::{Preview, preview::encode_jpeg};

/// Shapes in a scene: enough that any half of it can be told from any other.
const SHAPES: usize = 60;

/// Draws the scene of `seed`: a shaded background, ellipses and boxes of random colours, and a fine grain.
///
/// The raster is not bound to the size limits of stored previews.
pub fn photo(seed: u64, width: u32, height: u32) -> Preview {
    let mut random = Random(seed);
    let ground: [[f32; 3]; 2] = std::array::from_fn(|_| random.colour());
    let shapes: Vec<Shape> = (0..SHAPES).map(|_| Shape::draw(&mut random)).collect();
    let (across, down) = (1.0 / width.max(1) as f32, 1.0 / height.max(1) as f32);
    let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
    for row in 0..height {
        for column in 0..width {
            let (x, y) = ((column as f32 + 0.5) * across, (row as f32 + 0.5) * down);
            let shade = (x + y) / 2.0;
            let mut colour: [f32; 3] = std::array::from_fn(|c| ground[0][c] * (1.0 - shade) + ground[1][c] * shade);
            for shape in &shapes {
                if let Some(inside) = shape.colour_at(x, y) {
                    colour = inside;
                }
            }
            let grain = random.unit() * 12.0 - 6.0;
            rgb.extend(colour.map(|c| (c + grain).clamp(0.0, 255.0) as u8));
        }
    }
    Preview { width, height, rgb }
}

/// A picture of the colour that each of its places has.
#[cfg(test)]
pub(crate) fn drawn(width: u32, height: u32, colour: impl Fn(u32, u32) -> [u8; 3]) -> Preview {
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    Preview { width, height, rgb: places.flat_map(|(x, y)| colour(x, y)).collect() }
}

/// The scene of `seed` as a JPEG file. Sides stay below 65536.
pub fn jpeg(seed: u64, width: u32, height: u32, quality: u8) -> Vec<u8> {
    let photo = photo(seed, width, height);
    encode_jpeg(width, height, &photo.rgb, quality)
}

/// A turned ellipse or box with stripes, in units of the picture's sides.
struct Shape {
    centre: [f32; 2],
    radii: [f32; 2],
    turn: (f32, f32),
    round: bool,
    colours: [[f32; 3]; 2],
    stripes: f32,
}

impl Shape {
    fn draw(random: &mut Random) -> Self {
        Self {
            centre: [random.unit(), random.unit()],
            radii: [0.02 + 0.13 * random.unit(), 0.02 + 0.13 * random.unit()],
            turn: (random.unit() * std::f32::consts::PI).sin_cos(),
            round: random.unit() < 0.4,
            colours: [random.colour(), random.colour()],
            stripes: (random.unit() * 5.0).floor(),
        }
    }

    fn colour_at(&self, x: f32, y: f32) -> Option<[f32; 3]> {
        let (dx, dy) = (x - self.centre[0], y - self.centre[1]);
        let (sin, cos) = self.turn;
        let (u, v) = ((dx * cos + dy * sin) / self.radii[0], (dy * cos - dx * sin) / self.radii[1]);
        let inside = if self.round { u * u + v * v < 1.0 } else { u.abs() < 1.0 && v.abs() < 1.0 };
        inside.then(|| self.colours[usize::from(((u + 1.0) * self.stripes) as u32 % 2 == 1)])
    }
}

/// SplitMix64 (Steele et al., OOPSLA 2014): tiny, and it never changes with a crate's version.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// In 0..1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }

    fn colour(&mut self) -> [f32; 3] {
        std::array::from_fn(|_| 255.0 * self.unit())
    }
}
