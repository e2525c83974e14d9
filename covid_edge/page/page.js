for (const label of document.querySelectorAll("figcaption label")) {
  const map = label.closest("figure").querySelector(".map");
  const slider = label.querySelector("input");
  const show = () => { map.style.opacity = slider.value / 100; };
  slider.addEventListener("input", show);
  label.hidden = false;
  show();
}
