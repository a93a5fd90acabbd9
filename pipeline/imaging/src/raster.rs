//! Pixels in memory, and the few things done to them: shrink, turn, put on white.

use std::cell::RefCell;

use dih_core::image::Size;
use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use image::metadata::Orientation;

thread_local! {
    /// Kept for its memory: the rows between its two passes.
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

/// Lends this thread's resizer.
pub(crate) fn resizing<T>(resize: impl FnOnce(&mut Resizer) -> T) -> T {
    RESIZER.with_borrow_mut(resize)
}

/// 8-bit luma, row by row without gaps.
#[derive(Clone, Debug)]
pub struct Plane {
    pub width: u32,
    pub height: u32,
    pub pixels: Vec<u8>,
}

/// 8-bit RGB, row by row without gaps.
#[derive(Clone, Debug)]
pub(crate) struct Raster {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) rgb: Vec<u8>,
}

impl Raster {
    /// Shrinks to the size; does nothing where that is the size already.
    ///
    /// Cubic (a = -0.5) with antialiasing, the filter that Pillow calls `BICUBIC`: models are trained on it.
    pub(crate) fn shrink(self, to: Size) -> Raster {
        if (to.width, to.height) == (self.width, self.height) {
            return self;
        }
        let source = ImageRef::new(self.width, self.height, &self.rgb, PixelType::U8x3);
        let source = source.expect("a raster holds three bytes for each of its pixels");
        let mut target = Image::new(to.width, to.height, PixelType::U8x3);
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom)).use_alpha(false);
        let shrunk = resizing(|resizer| resizer.resize(&source, &mut target, &options));
        shrunk.expect("source and target have one pixel type");
        Raster { width: to.width, height: to.height, rgb: target.into_vec() }
    }

    /// Turns a picture as stored into the picture as it was seen.
    pub(crate) fn upright(self, orientation: Orientation) -> Raster {
        if orientation == Orientation::NoTransforms {
            return self;
        }
        let (width, height) = (self.width as usize, self.height as usize);
        let (columns, rows) = if swaps_sides(orientation) { (height, width) } else { (width, height) };
        let pixels = self.rgb.as_chunks::<3>().0;
        let mut rgb = Vec::with_capacity(self.rgb.len());
        for y in 0..rows {
            for x in 0..columns {
                let (from_x, from_y) = match orientation {
                    Orientation::NoTransforms => (x, y),
                    Orientation::FlipHorizontal => (width - 1 - x, y),
                    Orientation::Rotate180 => (width - 1 - x, height - 1 - y),
                    Orientation::FlipVertical => (x, height - 1 - y),
                    Orientation::Rotate90FlipH => (y, x),
                    Orientation::Rotate90 => (y, height - 1 - x),
                    Orientation::Rotate270FlipH => (width - 1 - y, height - 1 - x),
                    Orientation::Rotate270 => (width - 1 - y, x),
                };
                rgb.extend_from_slice(&pixels[from_y * width + from_x]);
            }
        }
        Raster { width: columns as u32, height: rows as u32, rgb }
    }
}

/// Whether a picture in this orientation stands on its side in the file.
pub(crate) fn swaps_sides(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH)
}
