//! From pixels to a model's input: centre square, resize, normalise. Pure.
//!
//! Held against Pillow and Python's ONNX Runtime by golden values (`tests/model.rs`).

use std::{borrow::Cow, fmt};

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
    values: Values,
}

/// What a graph takes: numbers, or the bytes of a picture as they are.
#[derive(Clone, PartialEq)]
pub(crate) enum Values {
    Floats(Vec<f32>),
    Bytes(Vec<u8>),
}

impl Values {
    /// The numbers; none if they are bytes.
    pub(crate) fn floats(&self) -> &[f32] {
        if let Self::Floats(floats) = self { floats } else { &[] }
    }

    /// The bytes; none if they are numbers.
    pub(crate) fn bytes(&self) -> &[u8] {
        if let Self::Bytes(bytes) = self { bytes } else { &[] }
    }
}

impl Tensor {
    /// Takes values in the order of `shape`: channel, row, column or row, column, channel.
    pub fn new(shape: [usize; 3], values: Vec<f32>) -> Result<Self, InferenceError> {
        Self::checked(shape, values.len(), Values::Floats(values))
    }

    /// The same for a graph that takes bytes.
    pub fn of_bytes(shape: [usize; 3], bytes: Vec<u8>) -> Result<Self, InferenceError> {
        Self::checked(shape, bytes.len(), Values::Bytes(bytes))
    }

    fn checked(shape: [usize; 3], count: usize, values: Values) -> Result<Self, InferenceError> {
        if shape.iter().product::<usize>() != count || count == 0 {
            return Err(InferenceError::WrongInput { fault: format!("{count} values for shape {shape:?}") });
        }
        Ok(Self { shape, values })
    }

    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The numbers; bytes come as the numbers 0 to 255.
    pub fn numbers(&self) -> Cow<'_, [f32]> {
        match &self.values {
            Values::Floats(floats) => floats.into(),
            Values::Bytes(bytes) => bytes.iter().copied().map(f32::from).collect(),
        }
    }

    /// Whether both can be in one batch.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        (self.shape, self.element()) == (other.shape, other.element())
    }

    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    /// `float32` or `uint8`, as ONNX says.
    pub(crate) fn element(&self) -> &'static str {
        match self.values {
            Values::Floats(_) => "float32",
            Values::Bytes(_) => "uint8",
        }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({} {:?})", self.element(), self.shape)
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

    /// An input of zeros.
    pub(crate) fn blank(&self) -> Tensor {
        let shape = self.shape();
        let count = shape.iter().product();
        let values = match self.normalise {
            Some(_) => Values::Floats(vec![0.0; count]),
            None => Values::Bytes(vec![0; count]),
        };
        Tensor { shape, values }
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
    match &input.normalise {
        Some(normalise) => {
            let scale = normalise.std.map(|s| 1.0 / s);
            let number = |byte: u8, colour: usize| (f32::from(byte) - normalise.mean[colour]) * scale[colour];
            Tensor::new(input.shape(), arranged(input, &square, number))
        }
        // The bytes of a picture lie as the graph wants them: nothing to do.
        None if (input.layout, input.channels) == (Layout::Nhwc, Channels::Rgb) => {
            Tensor::of_bytes(input.shape(), square)
        }
        None => Tensor::of_bytes(input.shape(), arranged(input, &square, |byte, _| byte)),
    }
}

/// The values of a square of RGB bytes, in the order of the input's axes and channels. `value` gets the byte and its
/// colour: 0 red, 1 green, 2 blue.
fn arranged<T: Copy + Default>(input: &Input, square: &[u8], value: impl Fn(u8, usize) -> T) -> Vec<T> {
    let order = match input.channels {
        Channels::Rgb => [0, 1, 2],
        Channels::Bgr => [2, 1, 0],
    };
    let mut values = vec![T::default(); square.len()];
    let pixels = square.chunks_exact(COLOURS);
    match input.layout {
        Layout::Nchw => {
            for (plane, colour) in values.chunks_exact_mut(pixels.len()).zip(order) {
                plane.iter_mut().zip(pixels.clone()).for_each(|(to, pixel)| *to = value(pixel[colour], colour));
            }
        }
        Layout::Nhwc => {
            for (to, pixel) in values.chunks_exact_mut(COLOURS).zip(pixels) {
                to.iter_mut().zip(order).for_each(|(to, colour)| *to = value(pixel[colour], colour));
            }
        }
    }
    values
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
    use crate::manifest::{Filter, Normalise};

    fn input(size: u32, layout: Layout, channels: Channels) -> Input {
        let normalise = Some(Normalise { mean: [10.0, 20.0, 30.0], std: [1.0, 2.0, 3.0] });
        Input { name: "input".into(), size, layout, channels, normalise, crop: 0.875, filter: Filter::CatmullRom }
    }

    fn flat(width: u32, height: u32) -> Vec<u8> {
        [11, 24, 39].repeat((width * height) as usize)
    }

    #[track_caller]
    fn check(layout: Layout, channels: Channels, want: [f32; 12]) {
        let tensor = tensor_of(&input(2, layout, channels), &flat(8, 9), 8, 9).expect("the bytes fit the size");
        assert_eq!(*tensor.numbers(), want);
    }

    #[test]
    fn values_lie_in_the_order_the_manifest_states() {
        check(Layout::Nchw, Channels::Rgb, [1., 1., 1., 1., 2., 2., 2., 2., 3., 3., 3., 3.]);
        check(Layout::Nchw, Channels::Bgr, [3., 3., 3., 3., 2., 2., 2., 2., 1., 1., 1., 1.]);
        check(Layout::Nhwc, Channels::Rgb, [1., 2., 3., 1., 2., 3., 1., 2., 3., 1., 2., 3.]);
        check(Layout::Nhwc, Channels::Bgr, [3., 2., 1., 3., 2., 1., 3., 2., 1., 3., 2., 1.]);
    }

    #[test]
    fn a_graph_that_takes_bytes_gets_them_in_the_same_orders() {
        let orders = [
            (Layout::Nhwc, Channels::Rgb, [11, 24, 39].repeat(4)),
            (Layout::Nhwc, Channels::Bgr, [39, 24, 11].repeat(4)),
            (Layout::Nchw, Channels::Rgb, [[11; 4], [24; 4], [39; 4]].concat()),
            (Layout::Nchw, Channels::Bgr, [[39; 4], [24; 4], [11; 4]].concat()),
        ];
        for (layout, channels, want) in orders {
            let input = Input { normalise: None, ..input(2, layout, channels) };
            let tensor = tensor_of(&input, &flat(8, 9), 8, 9).expect("the bytes fit the size");
            assert_eq!(tensor, Tensor::of_bytes(input.shape(), want).expect("twelve bytes"));
        }
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
