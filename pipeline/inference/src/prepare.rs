//! From pixels to a model's input: centre square, resize, normalise. Pure.
//!
//! Held against Pillow and Python's ONNX Runtime by golden values (`tests/model.rs`).

use std::fmt;

use fast_image_resize::{
    FilterType, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedCroppedImage, TypedImage, TypedImageRef},
    pixels::U8x3,
};

use crate::{
    error::InferenceError,
    manifest::{Channels, Filter, Input, Layout, Manifest},
};

const COLOURS: usize = 3;

/// One prepared input, without the batch axis.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    shape: [usize; 3],
    values: Vec<f32>,
}

impl Tensor {
    /// Takes values in the order of `shape`: channel, row, column or row, column, channel.
    pub fn new(shape: [usize; 3], values: Vec<f32>) -> Result<Self, InferenceError> {
        if shape.iter().product::<usize>() != values.len() || values.is_empty() {
            let fault = format!("{} values for shape {shape:?}", values.len());
            return Err(InferenceError::WrongInput { fault });
        }
        Ok(Self { shape, values })
    }

    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    pub fn values(&self) -> &[f32] {
        &self.values
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({:?})", self.shape)
    }
}

impl Input {
    /// Axes of one input, without the batch.
    pub fn shape(&self) -> [usize; 3] {
        let side = self.size as usize;
        match self.layout {
            Layout::Nchw => [COLOURS, side, side],
            Layout::Nhwc => [side, side, COLOURS],
        }
    }
}

impl Manifest {
    /// Makes the model's input of an upright picture, given as `width * height * 3` bytes of RGB, row by row.
    ///
    /// Looks at the centre square of `int(shorter side * crop)` pixels.
    pub fn prepare(&self, rgb: &[u8], width: u32, height: u32) -> Result<Tensor, InferenceError> {
        tensor_of(&self.input, rgb, width, height)
    }
}

fn tensor_of(input: &Input, rgb: &[u8], width: u32, height: u32) -> Result<Tensor, InferenceError> {
    let square = centre_square(rgb, width, height, input)?;
    let mean = input.mean;
    let scale = input.std.map(|s| 1.0 / s);
    let side = input.size as usize;
    let mut values = vec![0.0; side * side * COLOURS];
    for (at, pixel) in square.chunks_exact(COLOURS).enumerate() {
        for (colour, byte) in pixel.iter().enumerate() {
            let channel = match input.channels {
                Channels::Rgb => colour,
                Channels::Bgr => COLOURS - 1 - colour,
            };
            let to = match input.layout {
                Layout::Nchw => channel * side * side + at,
                Layout::Nhwc => at * COLOURS + channel,
            };
            values[to] = (f32::from(*byte) - mean[colour]) * scale[colour];
        }
    }
    Tensor::new(input.shape(), values)
}

/// The centre square, resized to the input's side, as RGB bytes.
fn centre_square(rgb: &[u8], width: u32, height: u32, input: &Input) -> Result<Vec<u8>, InferenceError> {
    let wrong = |fault: String| InferenceError::WrongInput { fault };
    let expected = u128::from(width) * u128::from(height) * COLOURS as u128;
    if expected == 0 || expected != rgb.len() as u128 {
        return Err(wrong(format!("{} bytes for {width}x{height} pixels of RGB", rgb.len())));
    }
    let side = ((f64::from(width.min(height)) * input.crop) as u32).max(1);
    let filter = match input.filter {
        Filter::Bilinear => FilterType::Bilinear,
        Filter::CatmullRom => FilterType::CatmullRom,
        Filter::Lanczos3 => FilterType::Lanczos3,
    };
    let resize = || -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        // Typed views: the untyped ones compile every filter for every pixel format, minutes of it.
        let picture = TypedImageRef::<U8x3>::from_buffer(width, height, rgb)?;
        // Cropped before resizing, so that no filter reaches beyond the square's edge. An odd rest goes to the left and
        // top, as in the pre-processing the models of the EfficientNet family were published with.
        let [left, top] = [width, height].map(|length| (length - side).div_ceil(2));
        let square = TypedCroppedImage::from_ref(&picture, left, top, side, side)?;
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
        // Rows first, then columns, as Pillow does: bytes are rounded in between, so the order shows in the embedding.
        let mut narrow = TypedImage::<U8x3>::new(input.size, side);
        Resizer::new().resize_typed(&square, &mut narrow, &options)?;
        let mut resized = vec![0; input.size as usize * input.size as usize * COLOURS];
        let mut target = TypedImage::<U8x3>::from_buffer(input.size, input.size, &mut resized)?;
        Resizer::new().resize_typed(&narrow, &mut target, &options)?;
        Ok(resized)
    };
    resize().map_err(|e| wrong(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Filter;

    fn input(size: u32, layout: Layout, channels: Channels) -> Input {
        let (mean, std) = ([10.0, 20.0, 30.0], [1.0, 2.0, 3.0]);
        Input { name: "input".into(), size, layout, channels, mean, std, crop: 0.875, filter: Filter::CatmullRom }
    }

    fn flat(width: u32, height: u32) -> Vec<u8> {
        [11, 24, 39].repeat((width * height) as usize)
    }

    #[track_caller]
    fn check(layout: Layout, channels: Channels, want: [f32; 12]) {
        let tensor = tensor_of(&input(2, layout, channels), &flat(8, 9), 8, 9).expect("the bytes fit the size");
        assert_eq!(tensor.values(), want);
    }

    #[test]
    fn values_lie_in_the_order_the_manifest_states() {
        check(Layout::Nchw, Channels::Rgb, [1., 1., 1., 1., 2., 2., 2., 2., 3., 3., 3., 3.]);
        check(Layout::Nchw, Channels::Bgr, [3., 3., 3., 3., 2., 2., 2., 2., 1., 1., 1., 1.]);
        check(Layout::Nhwc, Channels::Rgb, [1., 2., 3., 1., 2., 3., 1., 2., 3., 1., 2., 3.]);
        check(Layout::Nhwc, Channels::Bgr, [3., 2., 1., 3., 2., 1., 3., 2., 1., 3., 2., 1.]);
    }

    #[test]
    fn pictures_of_any_shape_are_prepared_down_to_one_pixel() {
        for (width, height) in [(1, 1), (1, 500), (3, 2), (2000, 7)] {
            let made = tensor_of(&input(32, Layout::Nchw, Channels::Rgb), &flat(width, height), width, height);
            assert_eq!(made.expect("every size is allowed").shape(), [3, 32, 32]);
        }
    }

    #[test]
    fn bytes_that_do_not_fit_the_size_are_refused() {
        for (bytes, width, height) in [(0, 0, 0), (12, 0, 4), (11, 2, 2), (13, 2, 2), (12, u32::MAX, u32::MAX)] {
            let made = tensor_of(&input(32, Layout::Nchw, Channels::Rgb), &vec![0; bytes], width, height);
            assert!(matches!(made, Err(InferenceError::WrongInput { .. })), "{bytes} bytes for {width}x{height}");
        }
    }
}
