if (typeof DecompressionStream === "function") document.documentElement.classList.add("can-explore");
