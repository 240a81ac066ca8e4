// The price board and the notices of one user.

window.Echo.channel('prices').listen('PriceChanged', ({ symbol, price, change }) => {
  const row = document.querySelector(`#prices [data-symbol="${CSS.escape(symbol)}"]`);
  if (!row) return;
  row.querySelector('.price').textContent = price.toFixed(2);
  row.querySelector('.change').textContent = `${change > 0 ? '+' : ''}${change.toFixed(2)} %`;
  row.dataset.way = change < 0 ? 'down' : 'up';
  row.dataset.ticks = Number(row.dataset.ticks ?? 0) + 1;
  row.animate([{ backgroundColor: change < 0 ? '#fde3e1' : '#dcf5e6' }, { backgroundColor: 'transparent' }], 900);
});

window.Echo.private(`App.Models.User.${page.user.id}`).notification(({ title, file }) => {
  const notice = element('li');
  notice.append(element('strong', '', title), element('span', '', file));
  document.getElementById('notices').prepend(notice);
});

document.getElementById('export').addEventListener('click', () => post('/exports'));
