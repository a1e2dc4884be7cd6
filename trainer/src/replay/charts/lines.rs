//! Lines: how one thing depends on another, for several cells in one plane.

use std::ops::Range;

use plotters::{
    chart::ChartBuilder,
    coord::{
        combinators::{BindKeyPoints, IntoLogRange},
        ranged1d::{AsRangedCoord, ValueFormatter},
    },
    element::{Circle, DashedPathElement, PathElement, Text, TriangleMarker},
    style::{
        Color, RGBColor, WHITE,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{Area, CLAIMED, Chart, Drawn, LATE, NEUTRAL, UNUSED, USED, WIDTH, cut, draw, short, small};
use crate::replay::{CellReport, ReplayReport, Result};

/// Share of the requests answered within a time, one curve per cell.
pub(in crate::replay) fn latency_curves(cells: &[CellReport]) -> Result<Option<Chart>> {
    let ends =
        cells.iter().filter_map(|cell| Some((cell.latency_curve_ms.first()?.0, cell.latency_curve_ms.last()?.0)));
    let (first, last) = ends.fold((f64::MAX, 1.0), |(low, high), end| (end.0.min(low), end.1.max(high)));
    let first = (first * 0.8).clamp(0.1, last / 2.0);
    let line = |cell: &CellReport| Line { points: steps(first, &cell.latency_curve_ms), ..Line::new(cell.name()) };
    let lines = cells.iter().filter(|cell| !cell.latency_curve_ms.is_empty()).map(line).collect();
    let plane = Plane { name: "latency", x: "milliseconds", y: "share of requests", has_points: false };
    draw_plane(&plane, || (first..last * 1.1).log_scale(), 0.0..1.0, lines)
}

/// Miss ratio against cache size, one line for all cells that differ in nothing else.
pub(in crate::replay) fn misses_by_cache(report: &ReplayReport) -> Result<Option<Chart>> {
    let mut sizes: Vec<u64> = report.cells.iter().map(|cell| cell.cache_bytes).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let (Some(least), Some(most)) = (sizes.first(), sizes.last().filter(|_| sizes.len() > 1)) else { return Ok(None) };
    let mut lines = Vec::new();
    for cell in &report.cells {
        let line = line(&mut lines, format!("{} {}", cell.node_name(), cell.prefetcher_name()));
        line.points.push((cell.cache_bytes as f64, cell.miss_ratio));
        line.points.sort_by(|one, other| one.0.total_cmp(&other.0));
    }
    let ticks: Vec<_> = sizes.iter().map(|bytes| *bytes as f64).collect();
    let x = || (*least as f64 * 0.9..*most as f64 * 1.1).log_scale().with_key_points(ticks.clone());
    let unit = if report.unit_size { "objects per node" } else { "bytes per node" };
    let plane = Plane { name: "miss ratio by cache size", x: unit, y: "miss ratio", has_points: true };
    draw_plane(&plane, x, 0.0..span(&lines, |point| point.1).end, lines)
}

/// Miss ratio against extra fetch, one line for all cells that differ in nothing but the budget, from what goes without
/// prefetching; prefetchers without a budget are points beside it.
pub(in crate::replay) fn misses_by_extra_fetch(report: &ReplayReport) -> Result<Option<Chart>> {
    let mut lines = Vec::new();
    for cell in report.cells.iter().filter(|cell| cell.prefetches()) {
        let model = if cell.budget.is_some() { &cell.model_version } else { &report.model_version };
        let model = model.as_ref().map_or_else(String::new, |version| format!(" {version}"));
        let line = line(&mut lines, format!("{} {}{model}", cell.node_name(), cell.cache));
        if line.points.is_empty() {
            line.points.push((0.0, cell.baseline.miss_ratio));
        }
        let point = (cell.extra_fetch_ratio * 100.0, cell.miss_ratio);
        match cell.budget {
            Some(budget) => {
                line.points.push(point);
                line.labels.push((point, format!("≤{:.0} %", budget * 100.0)));
            }
            None => {
                line.apart.push(point);
                line.labels.push((point, cell.prefetcher.as_str().to_owned()));
            }
        }
    }
    if lines.is_empty() {
        return Ok(None);
    }
    lines.iter_mut().for_each(|line: &mut Line| line.points[1..].sort_by(|one, other| one.0.total_cmp(&other.0)));
    let (x, y) = (span(&lines, |point| point.0), span(&lines, |point| point.1));
    let plane = Plane { name: "miss ratio by extra fetch", x: "extra fetch, %", y: "miss ratio", has_points: true };
    draw_plane(&plane, || x.clone(), y, lines)
}

/// A line, points that it does not join, and what is written beside points of either kind.
#[derive(Debug, Default)]
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
    apart: Vec<(f64, f64)>,
    labels: Vec<((f64, f64), String)>,
}

impl Line {
    fn new(name: String) -> Self {
        Self { name, ..Self::default() }
    }
}

/// What is drawn in, and the names of its axes.
#[derive(Debug)]
struct Plane {
    name: &'static str,
    x: &'static str,
    y: &'static str,
    /// Whether the points of a line are worth a mark each.
    has_points: bool,
}

/// The line called `name`, begun if there is none.
fn line(lines: &mut Vec<Line>, name: String) -> &mut Line {
    let position = lines.iter().position(|line| line.name == name).unwrap_or(lines.len());
    if position == lines.len() {
        lines.push(Line::new(name));
    }
    &mut lines[position]
}

/// Where the points of all lines lie, with room around them.
fn span(lines: &[Line], of: impl Fn(&(f64, f64)) -> f64) -> Range<f64> {
    let values = lines.iter().flat_map(|line| line.points.iter().chain(&line.apart)).map(of);
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    let room = ((high - low) * 0.1).max(1e-3);
    low - room..high + room
}

fn draw_plane<X>(plane: &Plane, x: impl Fn() -> X, y: Range<f64>, mut lines: Vec<Line>) -> Result<Option<Chart>>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
{
    if lines.is_empty() {
        return Ok(None);
    }
    let note = cut(&mut lines, PALETTE.len() * 2);
    let svg = draw(plane.name, HEIGHT, |area| {
        let (left, right) = area.split_horizontally(WIDTH - LEGEND_WIDTH);
        draw_lines(&left, plane, x(), y, &lines)?;
        lines.iter().enumerate().try_for_each(|(index, line)| draw_legend(&right, index, &line.name))
    })?;
    Ok(Some(Chart { svg, note }))
}

fn draw_lines<X>(area: &Area<'_>, plane: &Plane, x: X, y: Range<f64>, lines: &[Line]) -> Drawn
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
{
    let mut chart =
        ChartBuilder::on(area).margin(10).x_label_area_size(40).y_label_area_size(60).build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .label_style(small())
        .x_label_formatter(&|value| short(*value))
        .x_desc(plane.x)
        .y_desc(plane.y)
        .draw()?;
    for (index, line) in lines.iter().enumerate() {
        let colour = colour(index);
        let stroke = colour.stroke_width(2);
        if is_dashed(index) {
            chart.draw_series([DashedPathElement::new(line.points.clone(), DASH, GAP, stroke)])?;
        } else {
            chart.draw_series([PathElement::new(line.points.clone(), stroke)])?;
        }
        let marked = line.points.iter().filter(|_| plane.has_points);
        chart.draw_series(marked.map(|point| Circle::new(*point, 3, colour.filled())))?;
        chart.draw_series(line.apart.iter().map(|point| TriangleMarker::new(*point, 5, colour.filled())))?;
        let beside = small().color(&colour).pos(Pos::new(HPos::Left, VPos::Bottom));
        let label = |(point, text): &((f64, f64), String)| Text::new(format!("\u{a0}{text}"), *point, beside.clone());
        chart.draw_series(line.labels.iter().map(label))?;
    }
    Ok(())
}

/// Names a line in the colour and manner in which it is drawn.
fn draw_legend(area: &Area<'_>, index: usize, name: &str) -> Drawn {
    let y = 20 + 19 * i32::try_from(index)?;
    let (ends, stroke) = ([(0, y), (24, y)], colour(index).stroke_width(2));
    if is_dashed(index) {
        area.draw(&DashedPathElement::new(ends, DASH, GAP, stroke))?;
    } else {
        area.draw(&PathElement::new(ends, stroke))?;
    }
    let style = small().pos(Pos::new(HPos::Left, VPos::Center));
    area.draw(&Text::new(name.to_owned(), (32, y), style))?;
    Ok(())
}

fn colour(index: usize) -> RGBColor {
    PALETTE[index % PALETTE.len()]
}

/// Whether a line is dashed, for its colour is taken already.
fn is_dashed(index: usize) -> bool {
    index >= PALETTE.len()
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

const HEIGHT: u32 = 340;
const LEGEND_WIDTH: u32 = 270;
const DASH: i32 = 6;
const GAP: i32 = 4;
const PALETTE: [RGBColor; 8] =
    [NEUTRAL, USED, CLAIMED, UNUSED, RGBColor(128, 80, 170), LATE, RGBColor(30, 170, 190), RGBColor(90, 60, 40)];
