// What can be checked of a page without knowing it: names, headings, contrast, room. Evaluates to a list of complaints.
(() => {
  const complaints = [];
  const shown = (node) => node.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  const told = (node) => `<${node.tagName.toLowerCase()}${node.id ? ` id=${node.id}` : ""}${node.className?.baseVal ?? node.className ? ` class=${node.className.baseVal ?? node.className}` : ""}>`;

  const name = (node) => {
    const by = node.getAttribute("aria-labelledby");
    if (by) return by.split(" ").map((id) => document.getElementById(id)?.textContent ?? "").join(" ");
    return node.getAttribute("aria-label") ?? node.labels?.[0]?.textContent ?? node.getAttribute("alt")
      ?? node.querySelector("caption")?.textContent ?? node.textContent;
  };
  for (const node of document.querySelectorAll("a, button, input, select, table, section, nav, svg[role], [role=region], dialog")) {
    if (shown(node) && !name(node)?.trim()) complaints.push(`no name: ${told(node)}`);
  }
  for (const node of document.querySelectorAll("img")) if (!node.hasAttribute("alt")) complaints.push(`no alt: ${told(node)}`);
  for (const node of document.querySelectorAll("svg:not([role])")) if (node.getAttribute("aria-hidden") !== "true") complaints.push(`neither role nor hidden: ${told(node)}`);
  for (const node of document.querySelectorAll("th")) if (!node.scope) complaints.push(`no scope: ${node.textContent}`);

  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) complaints.push(`id twice: ${id}`);

  const levels = [...document.querySelectorAll("h1, h2, h3, h4")].map((node) => Number(node.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1) complaints.push(`h1: ${levels}`);
  levels.forEach((level, place) => place > 0 && level > levels[place - 1] + 1 && complaints.push(`heading skipped: ${levels}`));
  if (!document.documentElement.lang || !document.title) complaints.push("no language or title");
  if (document.querySelectorAll("main").length !== 1) complaints.push("not one main");

  // WCAG 2.2, 1.4.3 and 1.4.11: relative luminance and contrast.
  const parse = (color) => {
    const [r, g, b, a = 1] = color.match(/[\d.]+/g)?.map(Number) ?? [];
    return { r, g, b, a };
  };
  const light = ({ r, g, b }) => {
    const part = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const contrast = (one, other) => {
    const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.a === 1) return color;
      if (color.a > 0) complaints.push(`see-through background: ${told(at)}`);
    }
    return parse("rgb(255, 255, 255)");
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let texts = 0;
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement;
    if (!text.textContent.trim() || !shown(node) || ["SCRIPT", "NOSCRIPT", "OPTION", "TITLE", "title"].includes(node.tagName)) continue;
    const style = getComputedStyle(node);
    const size = parseFloat(style.fontSize);
    const needed = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    const ratio = contrast(parse(node instanceof SVGElement ? style.fill : style.color), behind(node));
    texts += 1;
    if (!(ratio >= needed)) complaints.push(`contrast ${ratio.toFixed(2)}: ${told(node)} ${text.textContent.trim().slice(0, 40)}`);
  }
  if (texts < 50) complaints.push(`only ${texts} texts were looked at`);
  let graphics = 0;
  for (const node of document.querySelectorAll(".line, .fill, .share, .whisker, .estimate, .margin, .dead .rim")) {
    const style = getComputedStyle(node);
    const ratio = contrast(parse(node.matches(".fill, .estimate") ? style.fill : style.stroke), behind(node));
    graphics += 1;
    if (!(ratio >= 3)) complaints.push(`contrast ${ratio.toFixed(2)}: ${told(node)}`);
  }
  if (graphics < 8) complaints.push(`only ${graphics} marks were looked at`);

  for (const node of document.querySelectorAll("button, input, select, summary, nav a")) {
    const box = node.getBoundingClientRect();
    if (shown(node) && node.type !== "checkbox" && Math.min(box.width, box.height) < 20) complaints.push(`small target ${box.width}×${box.height}: ${told(node)}`);
  }
  if (document.documentElement.scrollWidth > innerWidth) {
    const wide = [...document.body.querySelectorAll("*")].filter((node) => node.getBoundingClientRect().right > innerWidth + 1 && !node.closest(".scroll, nav")).map(told);
    complaints.push(`scrolls sideways, ${document.documentElement.scrollWidth} in ${innerWidth}: ${wide.slice(0, 5)}`);
  }
  return [...new Set(complaints)];
})()
