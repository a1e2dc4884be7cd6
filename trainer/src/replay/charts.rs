//! The report's charts as SVG text.

use plotters::{
    backend::SVGBackend,
    chart::{ChartBuilder, SeriesLabelPosition},
    coord::{
        Shift,
        combinators::IntoLogRange,
        ranged1d::{IntoSegmentedCoord, SegmentValue},
    },
    drawing::{DrawingArea, IntoDrawingArea},
    element::{PathElement, Rectangle, Text},
    series::LineSeries,
    style::{
        BLACK, Color, IntoFont, RGBColor, ShapeStyle, WHITE,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{CellReport, PrefetchReport, ReplayError, Result};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// One bar per cell.
pub(super) fn miss_ratios(cells: &[CellReport]) -> Result<String> {
    let bar = |cell: &CellReport| Bar {
        name: cell.name(),
        parts: vec![(cell.miss_ratio, if cell.budget.is_some() { USED } else { NEUTRAL })],
        note: format!("{:.4}", cell.miss_ratio),
    };
    draw_bars("miss ratio", &cells.iter().map(bar).collect::<Vec<_>>())
}

/// Used, late and unused prefetches of each cell that prefetches, one after the other.
pub(super) fn prefetch_outcomes(cells: &[CellReport]) -> Result<String> {
    let bar = |cell: &CellReport| {
        let PrefetchReport { used, late, unused, .. } = cell.prefetch;
        Bar {
            name: cell.name(),
            parts: vec![(used as f64, USED), (late as f64, LATE), (unused as f64, UNUSED)],
            note: format!("{used} used, {late} late, {unused} unused"),
        }
    };
    let prefetching = cells.iter().filter(|cell| cell.budget.is_some());
    draw_bars("prefetched segments", &prefetching.map(bar).collect::<Vec<_>>())
}

/// One curve per cell: share of requests answered within a time.
pub(super) fn latency_curves(cells: &[CellReport]) -> Result<String> {
    draw("latency", CURVES_HEIGHT, |area| {
        let ends =
            cells.iter().filter_map(|cell| Some((cell.latency_curve_ms.first()?.0, cell.latency_curve_ms.last()?.0)));
        let (first, last) = ends.fold((f64::MAX, 1.0), |(low, high), end| (end.0.min(low), end.1.max(high)));
        let first = (first * 0.8).clamp(0.1, last / 2.0);
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d((first..last * 1.1).log_scale(), 0.0..1.0)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_label_formatter(&|value| format!("{value:.0}"))
            .x_desc("milliseconds")
            .y_desc("share of requests")
            .draw()?;
        for (index, cell) in cells.iter().enumerate() {
            let colour = PALETTE[index % PALETTE.len()];
            let points = steps(first, &cell.latency_curve_ms);
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(cell.name())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        let labels = &mut chart.configure_series_labels();
        labels.position(SeriesLabelPosition::LowerRight).border_style(BLACK.mix(0.3)).background_style(WHITE).draw()?;
        Ok(())
    })
}

/// One bar of a bar chart: parts that follow each other, and what is written behind them.
struct Bar {
    name: String,
    parts: Vec<(f64, RGBColor)>,
    note: String,
}

impl Bar {
    fn length(&self) -> f64 {
        self.parts.iter().map(|(length, _)| length).sum()
    }
}

/// Lies the bars under each other, the first on top.
fn draw_bars(chart: &'static str, bars: &[Bar]) -> Result<String> {
    // A segmented axis needs two rows; a single bar lies under an empty one.
    let rows = bars.len().max(2);
    let height = 70 + 28 * u32::try_from(rows).unwrap_or(u32::MAX / 64);
    draw(chart, height, |area| {
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
    })
}

/// Draws on white and names the chart when that fails.
fn draw(chart: &'static str, height: u32, paint: impl FnOnce(&Area<'_>) -> Drawn) -> Result<String> {
    let mut svg = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        let blank = area.fill(&WHITE).map_err(Into::into);
        blank.and_then(|()| paint(&area)).and_then(|()| area.present().map_err(Into::into))
    };
    drawn.map_err(|error: Box<dyn std::error::Error>| ReplayError::Chart { chart, reason: error.to_string() })?;
    Ok(svg)
}

/// A curve that rises at each latency and is level in between.
fn steps(first: f64, curve: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut points = vec![(first, 0.0)];
    let mut level = 0.0;
    for (latency, share) in curve {
        let latency = latency.max(first);
        points.extend([(latency, level), (latency, *share)]);
        level = *share;
    }
    points
}

const WIDTH: u32 = 900;
const CURVES_HEIGHT: u32 = 340;
/// How much longer than the longest bar the axis is, so that its note fits behind it.
const NOTE_ROOM: f64 = 1.45;
const NEUTRAL: RGBColor = RGBColor(120, 134, 150);
const USED: RGBColor = RGBColor(44, 140, 90);
const LATE: RGBColor = RGBColor(222, 160, 40);
const UNUSED: RGBColor = RGBColor(196, 66, 60);
const PALETTE: [RGBColor; 8] = [
    NEUTRAL,
    USED,
    RGBColor(40, 98, 180),
    UNUSED,
    RGBColor(128, 80, 170),
    LATE,
    RGBColor(30, 150, 160),
    RGBColor(90, 60, 40),
];
