// Shows the value nearest to the pointer, and opens what is folded for printing. The page says everything without it.
const value = document.getElementById("value");
for (const svg of document.querySelectorAll("figure.chart svg")) {
  const points = [...svg.querySelectorAll(".point, .bar, .ratio")].map((element) => {
    const title = element.querySelector("title");
    title.remove();
    return { element, words: title.textContent };
  });
  const clear = () => {
    value.hidden = true;
    points.forEach(({ element }) => element.classList.remove("chosen"));
  };
  svg.addEventListener("pointerleave", clear);
  svg.addEventListener("pointermove", (event) => {
    clear();
    let nearest = null;
    let least = 32;
    for (const point of points) {
      const box = (point.element.querySelector(".touch") ?? point.element).getBoundingClientRect();
      const beside = (from, at, to) => Math.max(from - at, at - to, 0);
      const distance = Math.hypot(beside(box.left, event.clientX, box.right), beside(box.top, event.clientY, box.bottom));
      if (distance < least) [nearest, least] = [point, distance];
    }
    if (!nearest) return;
    nearest.element.classList.add("chosen");
    value.textContent = nearest.words;
    value.hidden = false;
    value.style.left = `${Math.min(event.clientX + 14, innerWidth - value.offsetWidth - 8)}px`;
    value.style.top = `${Math.max(event.clientY - value.offsetHeight - 10, 4)}px`;
  });
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((details) => { details.open = true; }));
