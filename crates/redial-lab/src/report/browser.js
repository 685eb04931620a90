// What does not fit on the page that is shown, in words. WIDTH and LEAST are put in by the test.
(() => {
  const width = WIDTH, least = LEAST, found = [];
  const box = (element) => element.getBoundingClientRect();
  const style = (element) => getComputedStyle(element);
  const name = (element) => {
    const kind = element.getAttribute("class");
    const text = element.textContent.trim().replace(/\s+/g, " ").slice(0, 50);
    return `<${element.localName}${kind ? ` class="${kind}"` : ""}> "${text}"`;
  };
  const scrolls = (element) => ["auto", "scroll"].includes(style(element).overflowX);
  const scroller = (element) => {
    let parent = element.parentElement;
    while (parent && !scrolls(parent)) parent = parent.parentElement;
    return parent;
  };
  const isShown = (element) => box(element).width > 0 && box(element).height > 0;

  const page = document.documentElement.scrollWidth;
  if (page > width) found.push(`the page is ${page} px wide, wider than the page of ${width}`);
  for (const element of document.querySelectorAll("body *:not(svg *)")) {
    if (!isShown(element)) continue;
    const { left, right } = box(element);
    if ((right > width + 1 || left < -1) && !scroller(element)) {
      found.push(`wider than the page: ${name(element)} from ${left} to ${right}`);
    }
    const isText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const size = parseFloat(style(element).fontSize);
    if (isText && size < least) found.push(`small letters: ${name(element)} of ${size} px`);
    if (scrolls(element) && element.scrollWidth > element.clientWidth + 1 && element.localName !== "pre"
      && !style(element).backgroundImage.includes("gradient")) {
      found.push(`no cue that it can be scrolled: ${name(element)}`);
    }
  }
  for (const verdict of document.querySelectorAll("td.exact, td.wrong, td.open")) {
    const end = scroller(verdict) ? box(scroller(verdict)).right : width;
    if (isShown(verdict) && box(verdict).right > end + 1) found.push(`out of sight: ${name(verdict)}`);
  }
  for (const svg of document.querySelectorAll("svg")) {
    const texts = [...svg.querySelectorAll("text")].filter(isShown);
    const frame = box(svg);
    texts.forEach((text, index) => {
      const here = box(text);
      const size = parseFloat(style(text).fontSize) * text.getScreenCTM().a;
      if (size < least - 0.05) found.push(`small letters: ${name(text)} of ${size.toFixed(1)} px`);
      if (here.left < frame.left - 1.5 || here.right > frame.right + 1.5
        || here.top < frame.top - 1.5 || here.bottom > frame.bottom + 1.5) {
        found.push(`outside its picture: ${name(text)}`);
      }
      for (const other of texts.slice(index + 1)) {
        const there = box(other);
        const across = Math.min(here.right, there.right) - Math.max(here.left, there.left);
        const down = Math.min(here.bottom, there.bottom) - Math.max(here.top, there.top);
        if (across > 1 && down > 4) found.push(`${name(text)} lies on ${name(other)}`);
      }
    });
  }
  return JSON.stringify(found);
})()
