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
    element::{PathElement, Rectangle},
    series::LineSeries,
    style::{BLACK, Color, RGBColor, ShapeStyle, WHITE},
};

use super::{CellReport, ReplayError, Result};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// One bar per cell.
pub(super) fn miss_ratios(cells: &[CellReport]) -> Result<String> {
    draw("miss ratio", |area| {
        let top = cells.iter().map(|cell| cell.miss_ratio).fold(0.01, f64::max) * 1.1;
        let bars = cells.iter().map(|cell| vec![(cell.miss_ratio, colour_of(cell))]).collect::<Vec<_>>();
        draw_bars(area, "miss ratio", top, &bars)
    })
}

/// Used, late and unused prefetches of each cell, one on the other.
pub(super) fn prefetch_outcomes(cells: &[CellReport]) -> Result<String> {
    draw("prefetch outcome", |area| {
        let parts = |cell: &CellReport| {
            let prefetch = cell.prefetch;
            vec![(prefetch.used as f64, USED), (prefetch.late as f64, LATE), (prefetch.unused as f64, UNUSED)]
        };
        let bars: Vec<_> = cells.iter().map(parts).collect();
        let heights = bars.iter().map(|parts| parts.iter().map(|(height, _)| height).sum::<f64>());
        let top = heights.fold(1.0, f64::max) * 1.1;
        draw_bars(area, "segments: used (green), late (amber), unused (red)", top, &bars)
    })
}

/// One curve per cell: share of requests answered within a time.
pub(super) fn latency_curves(cells: &[CellReport]) -> Result<String> {
    draw("latency", |area| {
        let ends =
            cells.iter().filter_map(|cell| Some((cell.latency_curve_ms.first()?.0, cell.latency_curve_ms.last()?.0)));
        let (first, last) = ends.fold((f64::MAX, 1.0), |(low, high), end| (end.0.min(low), end.1.max(high)));
        let first = first.clamp(0.1, last / 2.0);
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d((first..last * 1.1).log_scale(), 0.0..1.0)?;
        chart.configure_mesh().light_line_style(WHITE).x_desc("milliseconds").y_desc("share of requests").draw()?;
        for (index, cell) in cells.iter().enumerate() {
            let colour = PALETTE[index % PALETTE.len()];
            let points = steps(first, &cell.latency_curve_ms);
            let label = format!("{}: {} {} {}", index + 1, cell.policy.as_str(), cell.prefetcher.as_str(), cell.cache);
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        let labels = &mut chart.configure_series_labels();
        labels.position(SeriesLabelPosition::LowerRight).border_style(BLACK.mix(0.3)).background_style(WHITE).draw()?;
        Ok(())
    })
}

/// Draws on white and names the chart when that fails.
fn draw(chart: &'static str, paint: impl FnOnce(&Area<'_>) -> Drawn) -> Result<String> {
    let mut svg = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let blank = area.fill(&WHITE).map_err(Into::into);
        blank.and_then(|()| paint(&area)).and_then(|()| area.present().map_err(Into::into))
    };
    drawn.map_err(|error: Box<dyn std::error::Error>| ReplayError::Chart { chart, reason: error.to_string() })?;
    Ok(svg)
}

/// One column per cell, made of parts that stand on each other.
fn draw_bars(area: &Area<'_>, y_description: &str, top: f64, bars: &[Vec<(f64, RGBColor)>]) -> Drawn {
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d((1..bars.len().max(1)).into_segmented(), 0.0..top)?;
    let name = |value: &SegmentValue<usize>| match value {
        SegmentValue::CenterOf(number) | SegmentValue::Exact(number) => number.to_string(),
        SegmentValue::Last => String::new(),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .x_label_formatter(&name)
        .x_labels(bars.len().max(1))
        .x_desc("cell")
        .y_desc(y_description)
        .draw()?;
    for (number, parts) in (1..).zip(bars) {
        let mut base = 0.0;
        for (height, colour) in parts {
            let corners = [(SegmentValue::Exact(number), base), (SegmentValue::Exact(number + 1), base + height)];
            let mut bar = Rectangle::new(corners, ShapeStyle::from(colour).filled());
            bar.set_margin(0, 0, 8, 8);
            chart.draw_series(std::iter::once(bar))?;
            base += height;
        }
    }
    Ok(())
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

fn colour_of(cell: &CellReport) -> RGBColor {
    if cell.budget.is_some() { USED } else { NEUTRAL }
}

const SIZE: (u32, u32) = (900, 320);
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
