//! Pictures are drawn, so what was done to a copy is known to the pixel.

use proptest::prelude::*;

use super::{planes::STORED, *};
use crate::sample;

#[test]
fn features_read_back_as_they_were_written_and_nothing_else_is_read() {
    for (width, height) in [(320, 240), (240, 320), (100, 40), (9, 8), (2000, 3)] {
        let preview = sample::photo(7, width, height);
        let pixels = Pixels::new(preview.width, preview.height, &preview.rgb).expect("a picture");
        let bytes = features(pixels).to_bytes();
        assert_eq!(Features::from_bytes(&bytes), Some(features(pixels)), "{width}x{height}");
        for cut in [0, 1, 8, 9, bytes.len() - 1] {
            assert_eq!(Features::from_bytes(&bytes[..cut]), None, "cut to {cut}");
        }
        assert_eq!(Features::from_bytes(&[&bytes[..], &[0]].concat()), None, "one byte more");
        assert_eq!(Features::from_bytes(&[&[STORED + 1], &bytes[1..]].concat()), None, "of a later version");
    }
    let huge = [&[STORED][..], &u32::MAX.to_le_bytes(), &u32::MAX.to_le_bytes()].concat();
    assert_eq!(Features::from_bytes(&huge), None, "sizes that nothing backs");
}

/// An RGB8 picture.
#[derive(Clone, Debug)]
struct Picture {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl Picture {
    fn scene(seed: u64) -> Self {
        let preview = sample::photo(seed, 320, 240);
        Self { width: preview.width, height: preview.height, rgb: preview.rgb }
    }

    fn draw(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 3]) -> Self {
        let rgb = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).flat_map(|(x, y)| pixel(x, y)).collect();
        Self { width, height, rgb }
    }

    fn at(&self, x: u32, y: u32) -> [u8; 3] {
        let start = ((y * self.width + x) * 3) as usize;
        std::array::from_fn(|i| self.rgb[start + i])
    }

    /// The picture whose pixel at (x, y) is taken from `source(x, y)`, bilinear, black outside.
    fn warped(&self, width: u32, height: u32, source: impl Fn(f32, f32) -> (f32, f32)) -> Self {
        Self::draw(width, height, |x, y| {
            let (u, v) = source(x as f32, y as f32);
            let inside = u >= 0.0 && v >= 0.0 && u <= (self.width - 1) as f32 && v <= (self.height - 1) as f32;
            if !inside {
                return [0; 3];
            }
            let (left, top) = ((u as u32).min(self.width - 2), (v as u32).min(self.height - 2));
            let (s, t) = (u - left as f32, v - top as f32);
            let corner = |dx: u32, dy: u32| self.at(left + dx, top + dy).map(f32::from);
            let (ul, ur, ll, lr) = (corner(0, 0), corner(1, 0), corner(0, 1), corner(1, 1));
            std::array::from_fn(|i| {
                let (upper, lower) = (ul[i] + (ur[i] - ul[i]) * s, ll[i] + (lr[i] - ll[i]) * s);
                (upper + (lower - upper) * t).round() as u8
            })
        })
    }

    fn crop(&self, left: u32, top: u32, width: u32, height: u32) -> Self {
        Self::draw(width, height, |x, y| self.at(left + x, top + y))
    }

    fn mirrored(&self) -> Self {
        Self::draw(self.width, self.height, |x, y| self.at(self.width - 1 - x, y))
    }

    fn turned_clockwise(&self) -> Self {
        Self::draw(self.height, self.width, |x, y| self.at(y, self.height - 1 - x))
    }

    fn tilted(&self, degrees: f32) -> Self {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let (cx, cy) = ((self.width - 1) as f32 / 2.0, (self.height - 1) as f32 / 2.0);
        self.warped(self.width, self.height, |x, y| {
            ((x - cx) * cos - (y - cy) * sin + cx, (x - cx) * sin + (y - cy) * cos + cy)
        })
    }

    fn mapped(&self, change: impl Fn(u8) -> f32) -> Self {
        Self { rgb: self.rgb.iter().map(|v| change(*v).clamp(0.0, 255.0) as u8).collect(), ..self.clone() }
    }

    /// Half-transparent bars across the lower middle.
    fn watermarked(&self) -> Self {
        Self::draw(self.width, self.height, |x, y| {
            let bar = (y * 100 / self.height).clamp(60, 71) == y * 100 / self.height && x / 6 % 3 != 0;
            self.at(x, y).map(|v| if bar { v / 2 + 127 } else { v })
        })
    }

    /// The middle of `other` laid over `percent` of each side.
    fn patched(&self, other: &Self, percent: u32) -> Self {
        let (w, h) = (self.width * percent / 100, self.height * percent / 100);
        let (left, top) = ((self.width - w) / 2, (self.height - h) / 2);
        Self::draw(self.width, self.height, |x, y| {
            let patch = (left..left + w).contains(&x) && (top..top + h).contains(&y);
            if patch { other.at(x, y) } else { self.at(x, y) }
        })
    }

    fn described(&self) -> Described {
        let preview = Preview { width: self.width, height: self.height, rgb: self.rgb.clone() };
        Described::of(&preview).expect("drawn to its size")
    }
}

const SEEDS: std::ops::Range<u64> = 1..6;

/// Every scene's copy must be confirmed; the evidence of each is looked at by `proves`.
#[track_caller]
fn confirmed(copy: impl Fn(&Picture) -> Picture, proves: impl Fn(&Evidence) -> bool) {
    for seed in SEEDS {
        let original = Picture::scene(seed);
        let answer = compare(&copy(&original).described(), &original.described(), &Policy::default());
        assert!(answer.is_ok_and(|evidence| proves(&evidence)), "scene {seed}: {answer:?}");
    }
}

#[track_caller]
fn refused(repeat: &Picture, original: &Picture) {
    let answer = compare(&repeat.described(), &original.described(), &Policy::default());
    assert!(answer.is_err(), "{answer:?}");
}

/// Whether the evidence takes (x, y) of the repeat to (u, v) of the original, to within a pixel and a half.
fn takes(evidence: &Evidence, width: u32, (x, y): (f32, f32), (u, v): (f32, f32)) -> bool {
    let x = if evidence.mirrored { width as f32 - 1.0 - x } else { x };
    let (to_x, to_y) = Affine(evidence.transform).apply(x, y);
    (to_x - u).hypot(to_y - v) < 1.5
}

#[test]
fn a_picture_repeats_itself_with_the_identity() {
    confirmed(Picture::clone, |e| {
        let identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
        let near = e.transform.iter().zip(identity).all(|(a, b)| (a - b).abs() < 1e-3);
        near && !e.mirrored && e.inliers == e.matched && e.overlap > 0.99 && e.correlation > 0.999 && e.colour < 0.1
    });
}

#[test]
fn a_halved_copy_is_found_and_its_corner_lands_on_the_corner() {
    let halve = |p: &Picture| p.warped(160, 120, |x, y| (2.0 * x + 0.5, 2.0 * y + 0.5));
    confirmed(halve, |e| takes(e, 160, (0.0, 0.0), (0.5, 0.5)) && takes(e, 160, (159.0, 119.0), (318.5, 238.5)));
}

#[test]
fn a_crop_lands_where_it_was_cut() {
    confirmed(|p| p.crop(16, 12, 288, 216), |e| takes(e, 288, (0.0, 0.0), (16.0, 12.0)) && e.overlap > 0.98);
    confirmed(|p| p.crop(0, 20, 288, 216), |e| takes(e, 288, (287.0, 215.0), (287.0, 235.0)));
}

#[test]
fn light_and_contrast_do_not_hide_a_copy() {
    confirmed(|p| p.mapped(|v| f32::from(v) * 1.2), |e| !e.mirrored);
    confirmed(|p| p.mapped(|v| f32::from(v) * 0.7 + 20.0), |e| !e.mirrored);
}

#[test]
fn a_slight_turn_is_followed() {
    for degrees in [2.0f32, -2.0, 5.0] {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let want = (-100.0 * cos + 100.0 * sin + 159.5, -100.0 * sin - 100.0 * cos + 119.5);
        confirmed(|p| p.tilted(degrees), |e| takes(e, 320, (59.5, 19.5), want));
    }
}

#[test]
fn a_mirrored_copy_is_found_and_called_mirrored() {
    confirmed(Picture::mirrored, |e| e.mirrored && takes(e, 320, (0.0, 10.0), (319.0, 10.0)));
    confirmed(|p| p.crop(10, 10, 290, 220).mirrored(), |e| e.mirrored && takes(e, 290, (289.0, 0.0), (10.0, 10.0)));
}

#[test]
fn quarter_turns_are_found_plain_and_mirrored() {
    confirmed(Picture::turned_clockwise, |e| !e.mirrored && takes(e, 240, (239.0, 0.0), (0.0, 0.0)));
    confirmed(
        |p| p.turned_clockwise().turned_clockwise(),
        |e| !e.mirrored && takes(e, 320, (0.0, 0.0), (319.0, 239.0)),
    );
    confirmed(|p| p.turned_clockwise().mirrored(), |e| e.mirrored && takes(e, 240, (0.0, 0.0), (0.0, 0.0)));
}

#[test]
fn a_watermark_does_not_hide_a_copy() {
    confirmed(Picture::watermarked, |e| e.inliers < e.matched);
}

#[test]
fn both_directions_are_confirmed() {
    for seed in SEEDS {
        let (original, copy) = (Picture::scene(seed), Picture::scene(seed).crop(16, 12, 288, 216));
        assert!(confirm(&original.described(), &copy.described(), &Policy::default()).is_some(), "scene {seed}");
    }
}

#[test]
fn different_scenes_are_never_confirmed() {
    for (a, b) in SEEDS.flat_map(|a| SEEDS.map(move |b| (a, b))).filter(|(a, b)| a != b) {
        refused(&Picture::scene(a), &Picture::scene(b));
    }
}

#[test]
fn another_object_before_the_same_background_is_another_shot() {
    for seed in SEEDS {
        let scene = Picture::scene(seed);
        refused(&scene.patched(&Picture::scene(seed + 100), 65), &scene);
    }
}

#[test]
fn the_same_drawing_in_other_colours_is_another_picture() {
    let grey = |[r, g, b]: [u8; 3]| (0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)) as u8;
    for seed in SEEDS {
        let scene = Picture::scene(seed);
        let tinted = |red: bool| {
            Picture::draw(320, 240, |x, y| {
                let y = 64 + grey(scene.at(x, y)) / 2;
                if red { [y.saturating_add(40), y - 20, y] } else { [y - 40, y.saturating_add(20), y] }
            })
        };
        let answer = compare(&tinted(true).described(), &tinted(false).described(), &Policy::default());
        assert!(matches!(answer, Err(Refusal::ColourDiffers { .. })), "{answer:?}");
    }
}

#[test]
fn the_more_blocks_differ_the_nearer_must_colours_be() {
    let grey = |p: &Picture| Picture::draw(320, 240, |x, y| [p.at(x, y)[1] / 2 + 40; 3]);
    let tinted = |p: &Picture| {
        Picture::draw(320, 240, |x, y| {
            let [r, g, b] = p.at(x, y);
            [r + 18, g, b]
        })
    };
    for seed in SEEDS {
        let (scene, other) = (grey(&Picture::scene(seed)), grey(&Picture::scene(seed + 50)));
        let patched = scene.patched(&other, 46);
        let answer = |copy: &Picture| compare(&copy.described(), &scene.described(), &Policy::default());
        assert!(answer(&tinted(&scene)).is_ok(), "scene {seed}, tinted: {:?}", answer(&tinted(&scene)));
        assert!(answer(&patched).is_ok(), "scene {seed}, patched: {:?}", answer(&patched));
        let both = answer(&tinted(&patched));
        assert!(matches!(both, Err(Refusal::ColourDiffers { .. })), "scene {seed}, both: {both:?}");
    }
}

#[test]
fn a_small_cut_out_is_no_repeat_of_the_whole() {
    for seed in SEEDS {
        let scene = Picture::scene(seed);
        refused(&scene.crop(80, 60, 160, 120), &scene);
    }
}

#[test]
fn flat_pictures_and_smooth_ramps_prove_nothing() {
    let flat = |grey| Picture::draw(256, 256, |_, _| [grey; 3]);
    refused(&flat(200), &flat(200));
    refused(&flat(0), &flat(255));
    let ramp = Picture::draw(256, 256, |x, _| [(x / 2) as u8; 3]);
    refused(&ramp, &ramp);
}

#[test]
fn tiny_and_thin_pictures_are_refused_without_a_panic() {
    let dots = |width, height| Picture::draw(width, height, |x, y| [((x * 97 + y * 61) % 251) as u8; 3]);
    for (width, height) in [(1, 1), (2, 2), (7, 7), (1, 500), (500, 1), (300, 3)] {
        refused(&dots(width, height), &dots(width, height));
        refused(&dots(width, height), &dots(64, 64));
    }
}

#[test]
fn the_same_pair_always_gives_the_same_evidence() {
    let (a, b) = (Picture::scene(3).tilted(2.0).described(), Picture::scene(3).described());
    assert_eq!(compare(&a, &b, &Policy::default()), compare(&a, &b, &Policy::default()));
}

#[test]
fn defaults_pass_their_check_and_nonsense_is_named() {
    let faults = |policy: Policy| {
        let mut faults = dih_core::config::Faults::default();
        policy.check("confirm", &mut faults);
        faults.into_vec()
    };
    assert!(faults(Policy::default()).is_empty());
    let wrong = Policy { agreement_min: f32::NAN, stretch_max: 0.5, blocks_min: 0, ..Policy::default() };
    let paths: Vec<_> = faults(wrong).into_iter().map(|f| f.path).collect();
    assert_eq!(paths, ["confirm.stretch_max", "confirm.agreement_min", "confirm.blocks_min"]);
}

/// Noise of any contrast and grain.
fn any_picture() -> impl Strategy<Value = Picture> {
    (1u32..90, 1u32..90, 1u32..20, any::<u8>(), any::<u32>()).prop_map(|(width, height, grain, contrast, seed)| {
        Picture::draw(width, height, |x, y| {
            let cell = (x / grain * 7919 + y / grain * 104_729).wrapping_add(seed).wrapping_mul(2_654_435_761);
            let [a, b, c, _] = cell.rotate_left(13).wrapping_mul(0x9E37_79B9).to_be_bytes();
            [a, b, c].map(|v| (u32::from(v) * u32::from(contrast) / 255) as u8)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_picture_makes_it_panic_and_evidence_is_always_finite(a in any_picture(), b in any_picture()) {
        let everything = Policy {
            correlation_start_min: -1.0,
            correlation_coarse_min: -1.0,
            correlation_min: -1.0,
            stretch_max: f32::INFINITY,
            shared_min: 0.0,
            blocks_min: 0,
            agreement_min: 0.0,
            colour_max: 255.0,
            ..Policy::default()
        };
        if let Some(evidence) = confirm(&a.described(), &b.described(), &everything) {
            prop_assert!(evidence.transform.iter().all(|v| v.is_finite()));
            prop_assert!((0.0..=1.0).contains(&evidence.overlap) && evidence.inliers <= evidence.matched);
        }
    }
}
