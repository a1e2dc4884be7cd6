//! The report's charts as SVG text. Each is `None` where it would be empty.

mod bars;
mod calibration;
mod lines;
mod timeline;

use plotters::{
    backend::SVGBackend,
    coord::Shift,
    drawing::{DrawingArea, IntoDrawingArea},
    style::{BLACK, IntoFont, RGBColor, TextStyle, WHITE},
};

pub(crate) use self::bars::{Bar, draw_bars};
pub(super) use self::{
    bars::{miss_ratios, prefetch_outcomes},
    calibration::reliability,
    lines::{latency_curves, misses_by_cache, misses_by_extra_fetch},
    timeline::outcomes_over_time,
};
use super::{ReplayError, Result};

/// A chart, and what its reader should know besides.
#[derive(Debug)]
pub(crate) struct Chart {
    /// The drawing.
    pub(crate) svg: String,
    /// What its reader should know besides; may be empty.
    pub(crate) note: String,
}

/// Where a chart is drawn.
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// The result of drawing.
pub(crate) type Drawn<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Draws on white and names the chart when that fails.
pub(crate) fn draw(chart: &'static str, height: u32, paint: impl FnOnce(&Area<'_>) -> Drawn) -> Result<String> {
    let mut svg = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        let blank = area.fill(&WHITE).map_err(Into::into);
        blank.and_then(|()| paint(&area)).and_then(|()| area.present().map_err(Into::into))
    };
    drawn.map_err(|error: Box<dyn std::error::Error>| ReplayError::Chart { chart, reason: error.to_string() })?;
    Ok(svg)
}

/// Keeps the first of too many things to draw and says so.
pub(crate) fn cut<T>(things: &mut Vec<T>, most: usize) -> String {
    let count = things.len();
    things.truncate(most);
    if count > most { format!("The first {most} of {count} are shown.") } else { String::new() }
}

/// A number in three digits or so: `250`, `34k`, `1.5M`.
fn short(value: f64) -> String {
    let (factor, unit) = UNITS.into_iter().find(|(factor, _)| value >= *factor).unwrap_or((1.0, ""));
    let digits = format!("{:.1}", value / factor);
    format!("{}{unit}", digits.strip_suffix(".0").unwrap_or(&digits))
}

pub(crate) fn small() -> TextStyle<'static> {
    ("sans-serif", 12).into_font().color(&BLACK)
}

const UNITS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
const WIDTH: u32 = 900;
pub(crate) const NEUTRAL: RGBColor = RGBColor(120, 134, 150);
pub(crate) const USED: RGBColor = RGBColor(44, 140, 90);
const LATE: RGBColor = RGBColor(222, 160, 40);
pub(crate) const UNUSED: RGBColor = RGBColor(196, 66, 60);
pub(crate) const CLAIMED: RGBColor = RGBColor(40, 98, 180);
