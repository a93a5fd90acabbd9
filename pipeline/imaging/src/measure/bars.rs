//! The part of a picture that is left when the bars of a letterbox are taken off.

use crate::raster::Plane;

/// Most that the luma of a bar may vary along a row or column of it: JPEG rings where the photo begins.
const LEVELS_MAX: u8 = 12;

/// Most that bars may take of a side, half of it at either end: beyond it the picture is rather empty than framed.
const SIDE_SHARE_MAX: f64 = 0.9;

/// Rows or columns beside a bar that are left out, too: shrinking mixed bar and photo there into an edge that is in
/// neither. Half the support of the filter is 2; one more for JPEG's ringing.
const MARGIN: usize = 3;

/// Shortest side that must be left for what is inside to be measured by itself.
const SIDE_MIN: usize = 16;

/// A rectangle of a plane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window<'a> {
    luma: &'a Plane,
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl<'a> Window<'a> {
    fn whole(luma: &'a Plane) -> Self {
        Self { luma, left: 0, top: 0, width: luma.width as usize, height: luma.height as usize }
    }

    /// The picture with its bars.
    pub(super) fn outside(&self) -> Self {
        Self::whole(self.luma)
    }

    /// Its middle, half as wide and as high.
    pub(super) fn middle(&self) -> Self {
        let (left, top) = (self.left + self.width / 4, self.top + self.height / 4);
        let (width, height) = (self.width - self.width / 4 * 2, self.height - self.height / 4 * 2);
        Self { left, top, width, height, ..*self }
    }

    /// Whether there are no bars.
    pub(super) fn is_whole(&self) -> bool {
        (self.width, self.height) == (self.luma.width as usize, self.luma.height as usize)
    }

    /// Whether there are bars, and all are at least so light. A bar has one tone, so a pixel at its outer end tells it.
    pub(super) fn bars_are_from(&self, level: u8) -> bool {
        let whole = self.outside();
        let (right, bottom) = (whole.width.saturating_sub(1), whole.height.saturating_sub(1));
        let (x, y) = (self.left + self.width / 2, self.top + self.height / 2);
        let bars = [
            (self.top > 0, x, 0),
            (self.top + self.height < whole.height, x, bottom),
            (self.left > 0, 0, y),
            (self.left + self.width < whole.width, right, y),
        ];
        !self.is_whole() && bars.iter().all(|(is_there, x, y)| !is_there || whole.row(*y)[*x] >= level)
    }

    /// The same rectangle of what belongs to the pixels of the plane, row by row.
    pub(super) fn rows_of<'b, T>(&self, pixels: &'b [T]) -> impl ExactSizeIterator<Item = &'b [T]> {
        let rows = pixels.chunks_exact(self.luma.width.max(1) as usize).skip(self.top).take(self.height);
        rows.map(move |row| &row[self.left..][..self.width])
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn height(&self) -> usize {
        self.height
    }

    /// Row `y` of the window.
    pub(super) fn row(&self, y: usize) -> &'a [u8] {
        &self.luma.pixels[(self.top + y) * self.luma.width as usize + self.left..][..self.width]
    }

    fn is_bar_row(&self, y: usize) -> bool {
        uniform(self.row(y).iter().copied())
    }

    fn is_bar_column(&self, x: usize) -> bool {
        uniform((0..self.height).map(|y| self.row(y)[x]))
    }
}

/// What lies inside of the bars, or the whole where there are none, or where next to nothing would be left.
pub(super) fn inside(luma: &Plane) -> Window<'_> {
    let whole = Window::whole(luma);
    let most = |side: usize| (side as f64 * SIDE_SHARE_MAX / 2.0) as usize;
    let Some((top, height)) = span(whole.height, most(whole.height), |y| whole.is_bar_row(y)) else { return whole };
    let across = Window { top, height, ..whole };
    let Some((left, width)) = span(whole.width, most(whole.width), |x| across.is_bar_column(x)) else { return whole };
    let framed = (width, height) != (whole.width, whole.height);
    if framed && width.min(height) < SIDE_MIN { whole } else { Window { left, width, ..across } }
}

/// First line and number of lines between the bars at both ends. None where a bar is wider than `most`.
fn span(lines: usize, most: usize, is_bar: impl Fn(usize) -> bool) -> Option<(usize, usize)> {
    let before = (0..=most.min(lines.saturating_sub(1))).take_while(|n| is_bar(*n)).count();
    let after = (0..=most.min(lines.saturating_sub(1))).take_while(|n| is_bar(lines - 1 - n)).count();
    if before > most || after > most {
        return None;
    }
    let off = |bar: usize| if bar == 0 { 0 } else { bar + MARGIN };
    let left = lines.checked_sub(off(before) + off(after))?;
    Some((off(before), left))
}

/// Ends at the first pixel that differs: most pictures have no bars, and end after a few.
fn uniform(pixels: impl Iterator<Item = u8>) -> bool {
    let (mut low, mut high) = (u8::MAX, u8::MIN);
    for value in pixels {
        (low, high) = (low.min(value), high.max(value));
        if high - low > LEVELS_MAX {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pattern of 40 x 30 with bars left, top, right and below.
    fn framed(bars: [u32; 4], colour: u8) -> Plane {
        let [left, top, right, below] = bars;
        let (width, height) = (left + 40 + right, top + 30 + below);
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let photo = |x: u32, y: u32| ((x * 37 + y * 91) % 200) as u8;
        let pixels = places.map(|(x, y)| match (x.checked_sub(left), y.checked_sub(top)) {
            (Some(x), Some(y)) if x < 40 && y < 30 => photo(x, y),
            _ => colour,
        });
        Plane { width, height, pixels: pixels.collect() }
    }

    #[track_caller]
    fn check(bars: [u32; 4], colour: u8, want: (usize, usize, usize, usize)) {
        let plane = framed(bars, colour);
        let window = inside(&plane);
        assert_eq!((window.left, window.top, window.width, window.height), want);
    }

    #[test]
    fn bars_of_any_colour_and_side_are_taken_off_with_a_margin() {
        check([0, 0, 0, 0], 0, (0, 0, 40, 30));
        check([0, 10, 0, 10], 0, (0, 13, 40, 24));
        check([12, 0, 12, 0], 255, (15, 0, 34, 30));
        check([12, 10, 0, 0], 128, (15, 13, 37, 27));
    }

    #[test]
    fn an_empty_picture_has_no_bars() {
        let plane = Plane { width: 50, height: 40, pixels: vec![7; 2000] };
        assert_eq!((inside(&plane).width, inside(&plane).height), (50, 40));
    }

    #[test]
    fn no_size_is_too_small() {
        for (width, height) in [(1, 1), (1, 9), (9, 1), (4, 4)] {
            let pixels = (0..width * height).map(|n| (n * 90) as u8).collect();
            let plane = Plane { width, height, pixels };
            assert!(inside(&plane).width >= 1 && inside(&plane).height >= 1);
        }
    }
}
