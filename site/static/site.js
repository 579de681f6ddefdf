// A game is a page of its own, and asks the browser whether it is dark; here a reader may have chosen otherwise for this site.
function paint(frame) {
  const root = frame.contentDocument?.documentElement, theme = document.documentElement.dataset.theme;
  if (!root || !theme) return;
  root.dataset.theme = theme;
  frame.contentWindow.dispatchEvent(new Event("resize"));  // it draws itself anew
}

document.addEventListener("DOMContentLoaded", () => {
  // The theme gives its sidebar no role, and whoever jumps from landmark to landmark would miss it.
  const sidebar = document.querySelector(".bd-sidebar-primary");
  sidebar?.setAttribute("role", "region");
  sidebar?.setAttribute("aria-label", "All pages");
  const frames = [...document.querySelectorAll("iframe[srcdoc]")];
  for (const frame of frames) { frame.addEventListener("load", () => paint(frame)); paint(frame); }
  new MutationObserver(() => frames.forEach(paint)).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  // Whoever has a keyboard only can scroll a formula that is wider than a screen, as the theme lets them scroll code.
  for (const formula of document.querySelectorAll("div.formula")) if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
});

// Paper is white, whatever the screen was.
let onScreen;
window.addEventListener("beforeprint", () => { onScreen = document.documentElement.dataset.theme; document.documentElement.dataset.theme = "light"; });
window.addEventListener("afterprint", () => { document.documentElement.dataset.theme = onScreen; });
