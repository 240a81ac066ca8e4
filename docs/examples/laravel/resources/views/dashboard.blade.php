@extends('page')
@section('title', 'Dashboard')
@section('main')
  <div class="two">
    <section class="card">
      <h1>Prices <small>live, public channel <code>prices</code></small></h1>
      <table id="prices">
        <thead><tr><th>Contract</th><th>Price</th><th>Change</th></tr></thead>
        <tbody>
          @foreach ($prices as $symbol => $price)
            <tr data-symbol="{{ $symbol }}">
              <td>{{ $symbol }}</td>
              <td class="price">{{ number_format($price, 2) }}</td>
              <td class="change">0.00 %</td>
            </tr>
          @endforeach
        </tbody>
      </table>
    </section>
    <section class="card">
      <h1>Exports <small>for you alone</small></h1>
      <p>An export of this month's orders takes a while. You are told when it is ready.</p>
      <button id="export">Export orders</button>
      <ul id="notices" class="notices"></ul>
    </section>
  </div>
@endsection
@section('scripts')
  <script src="/dashboard.js"></script>
@endsection
