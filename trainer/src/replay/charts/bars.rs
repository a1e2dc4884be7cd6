//! Bars: one per cell.

use plotters::{
    chart::ChartBuilder,
    coord::ranged1d::{IntoSegmentedCoord, SegmentValue},
    element::{Rectangle, Text},
    style::{
        BLACK, IntoFont, RGBColor, ShapeStyle, WHITE,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{Chart, LATE, NEUTRAL, UNUSED, USED, draw};
use crate::replay::{CellReport, PrefetchReport, Result};

/// One bar per cell.
pub(in crate::replay) fn miss_ratios(cells: &[CellReport]) -> Result<Option<Chart>> {
    let bar = |cell: &CellReport| Bar {
        name: cell.name(),
        parts: vec![(cell.miss_ratio, if cell.budget.is_some() { USED } else { NEUTRAL })],
        note: format!("{:.4}", cell.miss_ratio),
    };
    draw_bars("miss ratio", &cells.iter().map(bar).collect::<Vec<_>>())
}

/// Used, late and unused prefetches of each cell that prefetches, one after the other.
pub(in crate::replay) fn prefetch_outcomes(cells: &[CellReport]) -> Result<Option<Chart>> {
    let bar = |cell: &CellReport| {
        let PrefetchReport { used, late, unused, .. } = cell.prefetch;
        Bar {
            name: cell.name(),
            parts: vec![(used as f64, USED), (late as f64, LATE), (unused as f64, UNUSED)],
            note: format!("{used} used, {late} late, {unused} unused"),
        }
    };
    let prefetching = cells.iter().filter(|cell| cell.prefetches());
    draw_bars("prefetched segments", &prefetching.map(bar).collect::<Vec<_>>())
}

/// One bar of a bar chart: parts that follow each other, and what is written behind them.
pub(crate) struct Bar {
    /// What stands before it.
    pub(crate) name: String,
    /// Lengths and colours.
    pub(crate) parts: Vec<(f64, RGBColor)>,
    /// What stands behind it.
    pub(crate) note: String,
}

impl Bar {
    fn length(&self) -> f64 {
        self.parts.iter().map(|(length, _)| length).sum()
    }
}

/// Lies the bars under each other, the first on top.
pub(crate) fn draw_bars(chart: &'static str, bars: &[Bar]) -> Result<Option<Chart>> {
    if bars.is_empty() {
        return Ok(None);
    }
    // A segmented axis needs two rows; a single bar lies under an empty one.
    let rows = bars.len().max(2);
    let height = 70 + 28 * u32::try_from(rows).unwrap_or(u32::MAX / 64);
    let svg = draw(chart, height, |area| {
        let longest = bars.iter().map(Bar::length).fold(f64::MIN_POSITIVE, f64::max);
        let mut plane = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(230)
            .build_cartesian_2d(0.0..longest * NOTE_ROOM, (0..rows - 1).into_segmented())?;
        let name = |value: &SegmentValue<usize>| match value {
            SegmentValue::CenterOf(row) => bars.iter().rev().nth(*row).map_or_else(String::new, |bar| bar.name.clone()),
            SegmentValue::Exact(_) | SegmentValue::Last => String::new(),
        };
        plane
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(WHITE)
            .label_style(("sans-serif", 13))
            .axis_desc_style(("sans-serif", 13))
            .y_label_formatter(&name)
            .y_labels(rows)
            .x_labels(6)
            .x_desc(chart)
            .draw()?;
        for (row, bar) in bars.iter().rev().enumerate() {
            let mut base = 0.0;
            for (length, colour) in &bar.parts {
                let corners = [(base, SegmentValue::Exact(row)), (base + length, SegmentValue::Exact(row + 1))];
                let mut part = Rectangle::new(corners, ShapeStyle::from(colour).filled());
                part.set_margin(5, 5, 0, 0);
                plane.draw_series(std::iter::once(part))?;
                base += length;
            }
            let style = ("sans-serif", 13).into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
            let note = Text::new(format!("\u{a0}{}", bar.note), (base, SegmentValue::CenterOf(row)), style);
            plane.draw_series(std::iter::once(note))?;
        }
        Ok(())
    })?;
    Ok(Some(Chart { svg, note: String::new() }))
}

/// How much longer than the longest bar the axis is, so that its note fits behind it.
const NOTE_ROOM: f64 = 1.45;
