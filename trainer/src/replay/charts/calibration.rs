//! Reliability: whether what the engine claims comes true as often as it says.

use nearcast_predictor::engine::{Account, Calibration, CalibrationBin};
use plotters::{
    chart::ChartBuilder,
    element::{Circle, PathElement},
    style::{Color, IntoFont, RGBColor, ShapeStyle, TextStyle, WHITE},
};

use super::{Area, CLAIMED, Chart, Drawn, NEUTRAL, UNUSED, cut, draw, small};
use crate::replay::{CellReport, Result};

/// One diagram per cell of the engine: claimed probability against the share that came true, of orders and of all
/// labels.
pub(in crate::replay) fn reliability(cells: &[CellReport]) -> Result<Option<Chart>> {
    let claims = |account: &Account| account.calibration.count() + account.label_calibration.count();
    let told = |cell: &'_ CellReport| cell.account.as_ref().is_some_and(|account| claims(account) > 0);
    let mut cells: Vec<_> = cells.iter().filter(|cell| told(cell)).collect();
    if cells.is_empty() {
        return Ok(None);
    }
    let note = cut(&mut cells, PANELS_MAX);
    let rows = cells.len().div_ceil(COLUMNS);
    let svg = draw("reliability", PANEL_HEIGHT * u32::try_from(rows).unwrap_or(1), |area| {
        let panels = area.split_evenly((rows, COLUMNS));
        let shown = panels.iter().zip(&cells).filter_map(|(panel, cell)| Some((panel, cell, cell.account.as_ref()?)));
        shown.into_iter().try_for_each(|(panel, cell, account)| draw_panel(panel, &cell.name(), account))
    })?;
    Ok(Some(Chart { svg, note }))
}

fn draw_panel(panel: &Area<'_>, name: &str, account: &Account) -> Drawn {
    let mut panel = panel.titled(name, small())?;
    let series = [("all candidates", &account.label_calibration, UNUSED), ("orders", &account.calibration, CLAIMED)];
    for (what, calibration, colour) in series {
        let caption = format!("{what}: {} claims, error {:.3}", calibration.count(), calibration.error());
        let style: TextStyle<'_> = ("sans-serif", 12).into_font().color(&colour);
        panel = panel.titled(&caption, style)?;
    }
    let mut plane = ChartBuilder::on(&panel)
        .margin(8)
        .x_label_area_size(38)
        .y_label_area_size(46)
        .build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
    plane
        .configure_mesh()
        .light_line_style(WHITE)
        .label_style(small())
        .x_labels(5)
        .y_labels(5)
        .x_desc("claimed")
        .y_desc("came true")
        .draw()?;
    plane.draw_series([PathElement::new([(0.0, 0.0), (1.0, 1.0)], NEUTRAL)])?;
    for (_, calibration, colour) in series {
        plane.draw_series(circles(calibration, colour))?;
    }
    Ok(())
}

/// A circle per bin; ten times the claims make it a step larger.
fn circles(calibration: &Calibration, colour: RGBColor) -> impl Iterator<Item = Circle<(f64, f64), i32>> {
    let circle = move |bin: &CalibrationBin| {
        let count = bin.count as f64;
        let style: ShapeStyle = colour.mix(0.65).filled();
        Circle::new((bin.claimed / count, bin.used as f64 / count), 2 + (1.5 * count.log10()) as i32, style)
    };
    calibration.bins.iter().filter(|bin| bin.count > 0).map(circle)
}

const COLUMNS: usize = 3;
const PANELS_MAX: usize = 6;
const PANEL_HEIGHT: u32 = 340;
