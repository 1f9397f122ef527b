// Adds to pages what they can do without: dropping a file, and the slider of the heat map.
"use strict";

const slider = document.getElementById("opacity");
const heat = document.getElementById("heat");
if (slider && heat) {
  slider.closest(".slider").hidden = false;
  const show = () => {
    heat.style.opacity = slider.value / 100;
    slider.nextElementSibling.value = `${slider.value} %`;
  };
  slider.addEventListener("input", show);
  show();
}

const input = document.getElementById("image");
const zone = document.querySelector(".drop");
if (input && zone) {
  const title = zone.querySelector("[data-drop]");
  title.textContent = title.dataset.drop;
  zone.classList.add("live");
  for (const kind of ["dragenter", "dragover"]) {
    zone.addEventListener(kind, (event) => {
      event.preventDefault();
      zone.classList.add("over");
    });
  }
  for (const kind of ["dragleave", "drop"]) {
    zone.addEventListener(kind, () => zone.classList.remove("over"));
  }
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length === 1) {
      input.files = event.dataTransfer.files;
    }
  });
}
